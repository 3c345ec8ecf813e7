package lokr

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// formRows is the number of rows from which on the whole matrix costs less than
// products with its factors, which pass over the rows several times.
const formRows = 256

// forms reports whether w1 ⊗ w2 is computed as a matrix, which is added to the
// weight as both are packed: forward and backward pass of the update then cost no
// product of their own.
func (s *site) forms(t *nn.Tape, x *nn.Var) bool {
	return t.Train && s.w2 != nil && s.cfg.RankDropout == 0 && x.Rows >= formRows
}

// form returns w1 ⊗ w2. It says nothing of gradients, see gradients.
func (s *site) form(t *nn.Tape, w1 *nn.Var) *nn.Var {
	d := t.New(s.outer[0]*s.inner[0], s.outer[1]*s.inner[1])
	fill := func(m kernels.Mat) {
		a, b := w1.Mat(), s.w2.V.Mat()
		kernels.Parallel(m.Rows, max(1, grain/m.Cols), func(lo, hi int) {
			for r := lo; r < hi; r++ {
				row, from := m.Row(r), b.Row(r%s.inner[0])
				for j, v := range a.Row(r / s.inner[0]) {
					to := row[j*len(from) : (j+1)*len(from)]
					copy(to, from)
					kernels.Scale(to, v)
				}
			}
		})
	}
	fill(d.Mat())
	t.Recomputable(d, fill, w1, s.w2.V)
	return d
}

// gradRows is how many rows gradients works on at a time: they stay in the cache.
const gradRows = 256

// gradients adds the gradients of w1 and w2 for input x and the gradient dy of the
// output. The gradient of the whole matrix, a product as large as the layer's own, is
// not computed: one side is blended by w1, and what is left are products with w2.
func (s *site) gradients(t *nn.Tape, w1, x *nn.Var, dy kernels.Mat, scale float32) {
	g1, g2 := gradient(t, w1), gradient(t, s.w2.V)
	a, b, xm := w1.Mat(), s.w2.V.Mat(), x.Mat()
	byInput := s.outer[0]*s.inner[1] <= s.outer[1]*s.inner[0]
	parts, size := s.outer[0], s.inner[1]
	if !byInput {
		parts, size = s.outer[1], s.inner[0]
	}
	n := min(gradRows, x.Rows)
	mixed, turned := t.New(n*parts, size), t.New(n*parts, size)
	for r0 := 0; r0 < x.Rows; r0 += n {
		n := min(n, x.Rows-r0)
		in := kernels.MatOf(xm.Data[r0*x.Cols:], n*s.outer[1], s.inner[1])
		out := kernels.MatOf(dy.Data[r0*dy.Cols:], n*s.outer[0], s.inner[0])
		u, q := mixed.Mat().RowsOf(0, n*parts), turned.Mat().RowsOf(0, n*parts)
		if byInput {
			blend(u.Data, in.Data, n, size, a, false, false)
			kernels.Gemm(g2, true, kernels.Term{A: out, TransA: true, B: u, Scale: scale})
			kernels.Gemm(q, false, kernels.Term{A: out, B: b})
			gram(g1, q.Data, in.Data, n, size, scale)
		} else {
			blend(u.Data, out.Data, n, size, a, true, false)
			kernels.Gemm(g2, true, kernels.Term{A: u, TransA: true, B: in, Scale: scale})
			kernels.Gemm(q, false, kernels.Term{A: in, B: b, TransB: true})
			gram(g1, out.Data, q.Data, n, size, scale)
		}
	}
	t.Discard(mixed)
	t.Discard(turned)
}
