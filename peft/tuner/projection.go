package tuner

import (
	"fmt"
	"math"
	"slices"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Projection is a frozen random pair of matrices that all modules share, each taking the
// part of its size (VeRA and what follows it). A method's configuration embeds it.
type Projection struct {
	Key  uint64 `json:"projection_prng_key"`
	Save bool   `json:"save_projection"`

	// A is [rows, largest input], B [largest output, columns].
	A, B   *nn.Param
	narrow map[int]*nn.Var // A's first columns
}

// Declare makes the pair as large as the largest of an adapter's modules wants. It is
// called once all sites are declared; name is the method's in the file.
func (p *Projection) Declare(a *Adapter, name string, rows, cols int) {
	a.SetFanInFanOut()
	in, out := 0, 0
	for _, at := range a.Places {
		in, out = max(in, at.In), max(out, at.Out)
	}
	p.narrow = map[int]*nn.Var{}
	p.A = a.Places[0].Shared(name+"_A", false, rows, in)
	p.B = a.Places[0].Shared(name+"_B", false, out, cols)
	if !p.Save {
		a.Drop(p.A)
		a.Drop(p.B)
		p.Draw()
	}
}

// Draw fills the matrices as PEFT does: uniform for the variance of He et al. 2015.
func (p *Projection) Draw() {
	rng := torchrng.New(p.Key)
	for _, m := range []*nn.Param{p.A, p.B} {
		bound := math.Sqrt(3) * (math.Sqrt(2) / math.Sqrt(float64(m.V.Cols)))
		rng.Uniform(m.V.Data, -bound, bound)
	}
}

// InitShared implements Initialiser.
func (p *Projection) InitShared(uint64) error {
	p.Draw()
	return nil
}

// Loading implements Loader: matrices that the configuration says are not in the file may
// only be there if they are the ones that it says to draw.
func (p *Projection) Loading(_ *Adapter, set *peft.TensorSet) error {
	for _, m := range []*nn.Param{p.A, p.B} {
		if p.Save || !set.Has(m.Name) {
			continue
		}
		got, err := set.Take(m.Name).AllFloats()
		if err != nil {
			return err
		}
		if !slices.Equal(got, m.V.Data) {
			return fmt.Errorf("%s is in the file, but not what projection_prng_key %d gives, and save_projection is false; set that to true to use the file's: %w", m.Name, p.Key, peft.ErrTensors)
		}
	}
	return nil
}

// First returns the first in columns of A.
func (p *Projection) First(in int) *nn.Var {
	if in == p.A.V.Cols {
		return p.A.V
	}
	if p.narrow[in] == nil {
		rows, cols := p.A.V.Rows, p.A.V.Cols
		v := Constant(make([]float32, rows*in), rows, in)
		for r := range rows {
			copy(v.Data[r*in:(r+1)*in], p.A.V.Data[r*cols:])
		}
		p.narrow[in] = v
	}
	return p.narrow[in]
}

// Top returns the first out rows of B.
func (p *Projection) Top(out int) *nn.Var {
	return Constant(p.B.V.Data[:out*p.B.V.Cols], out, p.B.V.Cols)
}
