package osf

import (
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Free takes the projections away: gradients are those of the loss.
func Free(ad peft.Adapter) {
	for _, s := range sites(ad) {
		if s.rank == 0 {
			continue
		}
		s.was.left, s.was.right = projection{}, projection{}
	}
}

// Frozen are the trained factors of one module and the singular vectors that stay as
// they are, as rows and columns.
type Frozen struct {
	U, V        *nn.Var
	Left, Right [][]float32
}

// Parts lists the modules of an adapter.
func Parts(ad peft.Adapter) []Frozen {
	var out []Frozen
	for _, s := range sites(ad) {
		all, err := split(s.at, min(s.at.Out, s.at.In))
		if err != nil {
			panic(err)
		}
		f := Frozen{U: s.u.V, V: s.v.V}
		for k := range all.s.Cols - s.rank {
			column := make([]float32, s.at.Out)
			for o := range column {
				column[o] = all.u.Mat().Row(o)[k]
			}
			f.Left, f.Right = append(f.Left, column), append(f.Right, all.v.Mat().Row(k))
		}
		out = append(out, f)
	}
	return out
}

func sites(ad peft.Adapter) []*site {
	var out []*site
	for _, s := range ad.(*tuner.Adapter).Sites {
		out = append(out, s.(*site))
	}
	return out
}
