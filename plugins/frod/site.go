package frod

import (
	"math"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// fit sets U and l0: the columns of W V⁻ᵀ and their lengths.
func (s *site) fit(v *linalg.Solver) error {
	in, out := s.at.In, s.at.Out
	w := s.at.Weight()
	turned := kernels.NewMat(in, out)
	kernels.Transpose(turned, w)
	x, err := v.Solve(turned.Data, out) // V⁻¹Wᵀ
	if err != nil {
		if x, err = pseudo(s.cat.v.V.Mat(), turned); err != nil {
			return err
		}
	}
	s.base = make([]float32, in)
	u := kernels.MatOf(x, in, out)
	for i := range in {
		sum := 0.0
		for _, v := range u.Row(i) {
			sum += float64(v) * float64(v)
		}
		length := math.Sqrt(sum)
		s.base[i] = float32(length)
		for j, v := range u.Row(i) {
			if u.Row(i)[j] = 0; length > 1e-12 {
				u.Row(i)[j] = float32(float64(v) / length)
			}
		}
	}
	s.u = tuner.Constant(w.Data, out, in)
	kernels.Transpose(s.u.Mat(), u)
	return nil
}

// pseudo returns V⁺ b for a V without inverse; as in PEFT singular values below a
// millionth of the largest count as none.
func pseudo(v, b kernels.Mat) ([]float32, error) {
	n := v.Rows
	left, sigma, right, err := linalg.SVD(v.Data, n, n)
	if err != nil {
		return nil, err
	}
	x, y := kernels.NewMat(n, b.Cols), kernels.NewMat(n, b.Cols)
	kernels.Gemm(x, false, kernels.Term{A: kernels.MatOf(left, n, n), TransA: true, B: b})
	for i, v := range sigma {
		f := float32(0)
		if v > 1e-6*sigma[0] {
			f = 1 / v
		}
		kernels.Scale(x.Row(i), f)
	}
	kernels.Gemm(y, false, kernels.Term{A: kernels.MatOf(right, n, n), TransA: true, B: x})
	return y.Data, nil
}

// mixed is (diag(l) + S) Vᵀ, [in, in], with base less diag(l0) Vᵀ. It is made again in
// backward.
func (s *site) mixed(t *nn.Tape, base []float32) *nn.Var {
	k, n := s.cat, s.at.In
	fill := func(dst kernels.Mat) {
		vt := k.turned.Mat()
		kernels.Parallel(n, 8, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				l := s.l.V.Data[i]
				if base != nil {
					l -= base[i]
				}
				row := dst.Row(i)
				clear(row)
				kernels.Axpy(l, vt.Row(i), row)
				for _, e := range k.number[k.start[i]:k.start[i+1]] {
					kernels.Axpy(s.s.V.Data[e], vt.Row(int(k.cols[e])), row)
				}
			}
		})
	}
	out := t.New(n, n)
	fill(out.Mat())
	if out.Needs = s.l.V.Needs || s.s.V.Needs; !out.Needs {
		return out
	}
	t.Recomputable(out, fill, s.l.V)
	t.Record(out, func() { s.grad(t, kernels.MatOf(out.Grad, n, n)) }, s.l.V)
	return out
}

// grad adds the gradients of l and S that the gradient of their product with Vᵀ gives.
func (s *site) grad(t *nn.Tape, d kernels.Mat) {
	k, vt := s.cat, s.cat.turned.Mat()
	gl, gs := zeroed(t, s.l.V), zeroed(t, s.s.V)
	kernels.Parallel(d.Rows, 8, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			if gl != nil {
				gl[i] += kernels.Dot(d.Row(i), vt.Row(i))
			}
			if gs != nil {
				for _, e := range k.number[k.start[i]:k.start[i+1]] {
					gs[e] += kernels.Dot(d.Row(i), vt.Row(int(k.cols[e])))
				}
			}
		}
	})
}

// zeroed returns the gradient of v to be added to, nil where none is wanted.
func zeroed(t *nn.Tape, v *nn.Var) []float32 {
	if !v.Needs {
		return nil
	}
	m, acc := t.Grad(v)
	if !acc {
		clear(m.Data)
	}
	return m.Data
}

// Attach implements tuner.Site. In training the weight is left out where nothing else
// is attached to it: U diag(l0) Vᵀ is the same.
func (s *site) Attach(scale float32) error {
	layer, drop := s.at.Mod.Linear, float32(s.cfg.Dropout)
	layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		if t.Train && scale == 1 && drop == 0 && layer.Single() && layer.W.Frozen != nil {
			a := s.mixed(t, nil)
			y := nn.LinearOp(t, x, nil, layer.Bias, nn.LowRank{A: a, B: s.u, Scale: 1})
			forget(t, a, x)
			return y
		}
		y, a := next(t, x), s.mixed(t, s.base)
		z := nn.LinearOp(t, x, nil, nil, nn.LowRank{X: nn.Dropout(t, x, drop), A: a, B: s.u, Scale: scale})
		forget(t, a, x)
		out := nn.Add(t, y, z)
		t.Discard(y)
		return out
	})
	return nil
}

// forget lets a matrix go until backward, which reads it where the input has a gradient.
func forget(t *nn.Tape, a, x *nn.Var) {
	if x.Needs || !t.Train {
		t.Discard(a)
	}
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	a := s.merged.Of(func(t *nn.Tape) []*nn.Var { return []*nn.Var{s.mixed(t, s.base)} })[0]
	tuner.AddProduct(w, s.u.Mat().RowsOf(r0, r1), a.Mat(), scale)
}
