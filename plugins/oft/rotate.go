package oft

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	if scale != 1 {
		return fmt.Errorf("a scale of %g cannot apply to rotations: %w", scale, peft.ErrConfig)
	}
	rotate := func(t *nn.Tape, x *nn.Var) *nn.Var {
		return nn.BlockDiag(t, x, s.rotation(t), s.blocks, false)
	}
	if e := s.place.Mod.Embedding; e != nil {
		e.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
			return rotate(t, next(t, ids))
		})
		return nil
	}
	s.place.Mod.Linear.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		turned := rotate(t, x)
		y := next(t, turned)
		t.Discard(turned)
		return y
	})
	return nil
}

// rotation returns the rotation of each block, or the one that all share.
func (s *site) rotation(t *nn.Tape) *nn.Var {
	s.project()
	q := tuner.Skew(t, s.r.V, s.size)
	n := s.r.V.Rows
	if !s.cfg.Neumann {
		return tuner.Cayley(t, q, n)
	}
	// Horner's rule: ((c3 Q + c2 I) Q + c1 I) Q + I.
	c := s.cfg.coefficients
	sum := q
	if last := c[len(c)-1]; last != 1 {
		sum = nn.Scale(t, q, last)
	}
	for i := len(c) - 2; i >= 0; i-- {
		sum = nn.BatchMatMul(t, tuner.PlusIdentity(t, sum, c[i]), q, n, false, false)
	}
	return tuner.PlusIdentity(t, sum, 1)
}

// project shrinks what is further away than coft allows, in place, as PEFT does in
// each forward pass.
func (s *site) project() {
	if !s.cfg.COFT {
		return
	}
	v := s.r.V
	eps := s.cfg.Eps / math.Sqrt(float64(v.Rows))
	for i := range v.Rows {
		row, sum := v.Mat().Row(i), 0.0
		for _, x := range row {
			sum += 2 * float64(x) * float64(x) // each element lies in the matrix twice
		}
		if norm := math.Sqrt(sum); norm > eps {
			kernels.Scale(row, float32(eps/norm))
		}
	}
}

// fixed is the rotation for a merge, where nothing trains any more.
func (s *site) fixed() *nn.Var {
	return s.merged.Of(func(t *nn.Tape) []*nn.Var { return []*nn.Var{s.rotation(t)} })[0]
}

// MergeRows implements tuner.RowMerging: W Rᵀ for a linear layer, E R for an
// embedding.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, _ float32) {
	t := nn.NewTape()
	defer t.Close()
	x := tuner.Constant(w.Data[:w.Rows*w.Cols], w.Rows, w.Cols)
	y := nn.BlockDiag(t, x, s.fixed(), s.blocks, s.place.Mod.Embedding == nil)
	copy(x.Data, y.Mat().Data)
}
