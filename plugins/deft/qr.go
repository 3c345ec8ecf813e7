package deft

import (
	"slices"
	"sync"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// decomposed is P = Q R as it was last computed: between two steps, and while text
// is written, P is the same.
type decomposed struct {
	mu      sync.Mutex
	p, q, r []float32
}

// of returns Q, [rows, cols] with orthonormal columns, and R, upper triangular. The
// signs are torch.linalg.qr's.
func (d *decomposed) of(p *nn.Var) (q, r []float32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.p, p.Data) {
		d.p = append(d.p[:0], p.Data...)
		d.q, d.r = linalg.QR(p.Data, p.Rows, p.Cols)
	}
	return d.q, d.r
}

// orthonormal returns the Q of P. With G the gradient of Q that of P is
// (G + Q C) R^-T, where C is symmetric and its lower triangle that of -Gᵀ Q.
func (s *site) orthonormal(t *nn.Tape) *nn.Var {
	p := s.p.V
	qd, rd := s.last.of(p)
	out := t.New(p.Rows, p.Cols)
	out.Needs = p.Needs
	copy(out.Data, qd)
	n := p.Cols
	t.Record(out, func() {
		g := kernels.MatOf(out.Grad, p.Rows, n)
		q, r := kernels.MatOf(qd, p.Rows, n), kernels.MatOf(rd, n, n)
		c, b := kernels.NewMat(n, n), kernels.NewMat(p.Rows, n)
		kernels.Gemm(c, false, kernels.Term{A: g, TransA: true, B: q, Scale: -1})
		for i := range n {
			for j := i + 1; j < n; j++ {
				c.Row(i)[j] = c.Row(j)[i]
			}
		}
		kernels.Gemm(b, false, kernels.Term{A: q, B: c})
		dp, acc := t.Grad(p)
		kernels.Parallel(p.Rows, 16, func(lo, hi int) {
			x := make([]float64, n)
			for i := lo; i < hi; i++ {
				for k := n - 1; k >= 0; k-- {
					v := float64(b.Row(i)[k]) + float64(g.Row(i)[k])
					for j := k + 1; j < n; j++ {
						v -= float64(r.Row(k)[j]) * x[j]
					}
					x[k] = v / float64(r.Row(k)[k])
				}
				for k, v := range x {
					if acc {
						v += float64(dp.Row(i)[k])
					}
					dp.Row(i)[k] = float32(v)
				}
			}
		})
	}, p)
	return out
}
