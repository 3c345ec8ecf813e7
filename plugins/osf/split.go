package osf

import (
	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// parts is a weight as it was at first: the triplets that are trained, and what keeps
// gradients out of the space of the others. All are constants.
type parts struct {
	u, s, v     *nn.Var // [out, r], [1, r] and [r, in]
	left, right projection
}

// split decomposes a weight; the last r triplets are trained.
func split(p *tuner.Place, r int) (*parts, error) {
	w := p.Weight()
	u, s, vt, err := linalg.SVD(w.Data, w.Rows, w.Cols)
	if err != nil {
		return nil, err
	}
	n := len(s)
	k := n - r
	whole := kernels.MatOf(u, p.Out, n)
	out := &parts{
		u: pick(whole, k, n),
		s: tuner.Constant(append([]float32(nil), s[k:]...), 1, r),
		v: tuner.Constant(append([]float32(nil), vt[k*p.In:]...), r, p.In),
	}
	// What is orthogonal to the first vectors of a square matrix is spanned by the
	// others, which are here already.
	out.left = projection{basis: out.u, columns: true, onto: true}
	if p.Out > p.In {
		out.left = projection{basis: pick(whole, 0, k), columns: true}
	}
	out.right = projection{basis: out.v, onto: true}
	if p.In > p.Out {
		out.right = projection{basis: tuner.Constant(append([]float32(nil), vt[:k*p.In]...), k, p.In)}
	}
	return out, nil
}

// pick copies columns c0 to c1.
func pick(m kernels.Mat, c0, c1 int) *nn.Var {
	out := make([]float32, 0, m.Rows*(c1-c0))
	for r := range m.Rows {
		out = append(out, m.Row(r)[c0:c1]...)
	}
	return tuner.Constant(out, m.Rows, c1-c0)
}

// projection takes a space out of a gradient, or everything else. The zero value takes
// out nothing.
type projection struct {
	basis   *nn.Var // orthonormal columns, or rows
	columns bool
	onto    bool // the basis spans what stays
}

// add adds the projection of g to dst; with acc false dst is undefined before.
func (p projection) add(t *nn.Tape, dst kernels.Mat, acc bool, g kernels.Mat) {
	if p.basis == nil || !p.onto {
		kernels.Parallel(dst.Rows, 64, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				if acc {
					kernels.Add(dst.Row(r), dst.Row(r), g.Row(r))
				} else {
					copy(dst.Row(r), g.Row(r))
				}
			}
		})
		acc = true
	}
	if p.basis == nil {
		return
	}
	scale := float32(-1)
	if p.onto {
		scale = 1
	}
	b := p.basis.Mat()
	var within *nn.Var
	if p.columns {
		within = t.New(b.Cols, g.Cols)
		kernels.Gemm(within.Mat(), false, kernels.Term{A: b, TransA: true, B: g})
		kernels.Gemm(dst, acc, kernels.Term{A: b, B: within.Mat(), Scale: scale})
	} else {
		within = t.New(g.Rows, b.Rows)
		kernels.Gemm(within.Mat(), false, kernels.Term{A: g, B: b, TransB: true})
		kernels.Gemm(dst, acc, kernels.Term{A: within.Mat(), B: b, Scale: scale})
	}
	t.Discard(within)
}
