package vera

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// Attach implements tuner.Site. The gradient of neither shared matrix is computed.
//
// The rank is large: for many rows the change is made as a matrix, which is added to
// the weight, and the gradients of both vectors come from one product of the outputs'
// gradients with A x, which all modules with the same input share. For few rows the
// inner vector scales activations, the outer one the rows of B.
func (s *site) Attach(scale float32) error {
	a, b := s.cfg.First(s.in), s.cfg.Top(s.out)
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		// In products of the rank: A x, its product with the outputs' gradients and the
		// matrix twice, against A x, B, and the three products of their backward.
		if t.Train && s.cfg.Dropout == 0 && 2*s.in*s.out < x.Rows*(s.in+2*s.out) {
			return s.dense(t, x, a, b, scale)
		}
		z := nn.MatMulT(t, nn.Dropout(t, x, float32(s.cfg.Dropout)), a)
		return nn.LowRank{X: nn.MulRow(t, z, s.ld.V), B: nn.MulCol(t, b, s.lb.V), Scale: scale}
	})
	return nil
}

// dense is the change as a matrix. It is made for the product and again in backward.
func (s *site) dense(t *nn.Tape, x, a, b *nn.Var, scale float32) nn.LowRank {
	if scale == 0 { // Gemm takes 0 for 1
		return nn.LowRank{}
	}
	z := t.Once(x, s.cfg, func() *nn.Var {
		return t.Later(x.Rows, s.cfg.R, func(dst kernels.Mat) {
			kernels.Gemm(dst, false, kernels.Term{A: x.Mat(), B: a.Mat(), TransB: true})
		}, x)
	})
	change := t.Later(s.out, s.in, func(dst kernels.Mat) {
		scaled := t.New(s.out, s.cfg.R)
		left, right := scaled.Mat(), b.Mat()
		kernels.Parallel(s.out, 32, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				kernels.Mul(left.Row(i), right.Row(i), s.ld.V.Data)
				kernels.Scale(left.Row(i), s.lb.V.Data[i])
			}
		})
		kernels.Gemm(dst, false, kernels.Term{A: left, B: a.Mat()})
		t.Discard(scaled)
	})
	return nn.LowRank{B: change, Scale: scale, Reads: []*nn.Var{z}, Grad: func(dy kernels.Mat, r0, r1 int) {
		s.grad(t, b.Mat(), z.Mat().RowsOf(r0, r1), dy, scale)
	}}
}

// grad adds the gradients of the vectors: with M = dyᵀ z they are the sums of the
// elements of M * B, times the inner vector along rows, times the outer one along
// columns.
func (s *site) grad(t *nn.Tape, b, z, dy kernels.Mat, scale float32) {
	db, dd := zeroed(t, s.lb.V), zeroed(t, s.ld.V)
	product := t.New(s.out, s.cfg.R)
	m := product.Mat()
	kernels.Gemm(m, false, kernels.Term{A: dy, TransA: true, B: z, Scale: scale})
	kernels.Parallel(s.out, 32, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernels.Mul(m.Row(i), m.Row(i), b.Row(i))
			db.Data[i] += kernels.Dot(m.Row(i), s.ld.V.Data)
		}
	})
	kernels.Gemm(dd, true, kernels.Term{A: s.lb.V.Mat(), B: m})
	t.Discard(product)
}

// zeroed returns the gradient of v to be added to.
func zeroed(t *nn.Tape, v *nn.Var) kernels.Mat {
	m, acc := t.Grad(v)
	if !acc {
		clear(m.Data)
	}
	return m
}
