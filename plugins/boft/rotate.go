package boft

import (
	"fmt"
	"math/rand/v2"

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
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		factors := s.factors(t)
		for i := len(factors) - 1; i >= 0; i-- {
			x = s.turn(t, x, i, factors[i], false)
		}
		y := next(t, x)
		t.Discard(x)
		return s.scaled(t, y)
	})
	return nil
}

// scaled multiplies the output without its bias.
func (s *site) scaled(t *nn.Tape, y *nn.Var) *nn.Var {
	by := nn.View(t, s.s.V, 1, s.s.V.Rows)
	b := s.layer.Bias
	if b == nil {
		return nn.MulRow(t, y, by)
	}
	var bias *nn.Var
	if b.P != nil {
		bias = b.P.V
	} else {
		bias = tuner.Constant(make([]float32, b.In), 1, b.In)
		b.Row(bias.Data, 0)
	}
	// (y - b) s + b = y s + b (1 - s)
	rest := nn.Mul(t, nn.View(t, bias, 1, by.Cols), nn.AddConst(t, nn.Scale(t, by, -1), 1))
	return nn.AddRow(t, nn.MulRow(t, y, by), rest)
}

// turn multiplies x by factor i, or by its transpose: the inputs in the factor's
// order, rotated, and put back.
func (s *site) turn(t *nn.Tape, x *nn.Var, i int, blocks *nn.Var, transpose bool) *nn.Var {
	p := s.perms[i]
	if p == nil {
		return nn.BlockDiag(t, x, blocks, s.blocks, transpose)
	}
	sorted := nn.SelectCols(t, x, p.inverse)
	turned := nn.BlockDiag(t, sorted, blocks, s.blocks, transpose)
	t.Discard(sorted)
	out := nn.SelectCols(t, turned, p.order)
	t.Discard(turned)
	return out
}

// factors returns the rotations of each factor, [blocks*size, size].
func (s *site) factors(t *nn.Tape) []*nn.Var {
	all := s.cfg.Factors * s.blocks
	skew := nn.Scale(t, nn.Minus(t, s.r.V, nn.TransposeEach(t, s.r.V, all)), 0.5)
	r := s.drop(t, tuner.Cayley(t, skew, all))
	if s.cfg.Factors == 1 {
		return []*nn.Var{r}
	}
	out := make([]*nn.Var, s.cfg.Factors)
	rows := s.blocks * s.size
	for i := range out {
		index := make([]int32, rows)
		for j := range index {
			index[j] = int32(i*rows + j)
		}
		out[i] = nn.GatherRows(t, r, index)
	}
	return out
}

// drop replaces a share of the blocks of one factor by the identity.
func (s *site) drop(t *nn.Tape, r *nn.Var) *nn.Var {
	n := int(s.cfg.Dropout * float64(s.blocks))
	seed := tuner.DropMask(t, 64, 0.5, false)
	if n == 0 || seed == nil {
		return r
	}
	bits := uint64(0)
	for _, v := range seed.Data {
		bits = bits<<1 | uint64(v)
	}
	rng := rand.New(rand.NewPCG(bits, 0))
	first := rng.IntN(s.cfg.Factors) * s.blocks
	keep := tuner.Constant(make([]float32, r.Rows), r.Rows, 1)
	eye := tuner.Constant(make([]float32, r.Rows*r.Cols), r.Rows, r.Cols)
	for i := range keep.Data {
		keep.Data[i] = 1
	}
	for _, b := range rng.Perm(s.blocks)[:n] {
		for i := range s.size {
			row := (first+b)*s.size + i
			keep.Data[row] = 0
			eye.Data[row*r.Cols+i] = 1
		}
	}
	return nn.Add(t, nn.MulCol(t, r, keep), eye)
}

// MergeRows implements tuner.RowMerging: the chain's transpose applied to rows,
// which are scaled.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, _ float32) {
	t := nn.NewTape()
	defer t.Close()
	x := tuner.Constant(w.Data[:w.Rows*w.Cols], w.Rows, w.Cols)
	y := x
	for i, f := range s.merged.Of(s.factors) {
		y = s.turn(t, y, i, f, true)
	}
	copy(x.Data, y.Mat().Data)
	for r := r0; r < r1; r++ {
		kernels.Scale(w.Row(r-r0), s.s.V.Data[r])
	}
}
