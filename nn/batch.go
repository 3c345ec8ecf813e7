package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// eachMatrix calls f for 0 to n-1: side by side when there are enough of them for
// all cores, else one after the other with all cores on each product.
func eachMatrix(n int, f func(i int)) {
	if n < 2*kernels.Threads() {
		for i := range n {
			f(i)
		}
		return
	}
	kernels.Parallel(n, 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i)
		}
	})
}

// BatchMatMul returns n products: a holds n matrices one below the other, each
// [r,k], or [k,r] with transA; b holds n of [k,c], or [c,k] with transB. The
// result is [n*r, c].
func BatchMatMul(t *Tape, a, b *Var, n int, transA, transB bool) *Var {
	ar, br := split("BatchMatMul", a.Rows, n), split("BatchMatMul", b.Rows, n)
	r, k, kb, c := ar, a.Cols, br, b.Cols
	if transA {
		r, k = k, r
	}
	if transB {
		kb, c = c, kb
	}
	if k != kb {
		panic(fmt.Sprintf("nn: BatchMatMul of [%d,%d] and [%d,%d]", r, k, kb, c))
	}
	out := t.New(n*r, c)
	out.Needs = a.Needs || b.Needs
	am, bm, o := a.Mat(), b.Mat(), out.Mat()
	eachMatrix(n, func(i int) {
		kernels.Gemm(o.RowsOf(i*r, (i+1)*r), false, kernels.Term{
			A: am.RowsOf(i*ar, (i+1)*ar), TransA: transA, B: bm.RowsOf(i*br, (i+1)*br), TransB: transB})
	})
	t.record(out, func() {
		dy := out.gradMat()
		if a.Needs {
			m, acc := t.Grad(a)
			bm := b.Mat()
			eachMatrix(n, func(i int) {
				d, bi := dy.RowsOf(i*r, (i+1)*r), bm.RowsOf(i*br, (i+1)*br)
				term := kernels.Term{A: d, B: bi, TransB: !transB} // dA = dY·op(B)ᵀ
				if transA {
					term = kernels.Term{A: bi, TransA: transB, B: d, TransB: true} // op(B)·dYᵀ
				}
				kernels.Gemm(m.RowsOf(i*ar, (i+1)*ar), acc, term)
			})
		}
		if b.Needs {
			m, acc := t.Grad(b)
			am := a.Mat()
			eachMatrix(n, func(i int) {
				d, ai := dy.RowsOf(i*r, (i+1)*r), am.RowsOf(i*ar, (i+1)*ar)
				term := kernels.Term{A: ai, TransA: !transA, B: d} // dB = op(A)ᵀ·dY
				if transB {
					term = kernels.Term{A: d, TransA: true, B: ai, TransB: transA} // dYᵀ·op(A)
				}
				kernels.Gemm(m.RowsOf(i*br, (i+1)*br), acc, term)
			})
		}
	}, partners(a, b)...)
	return out
}

// Kron returns the Kronecker product of [p,q] and [r,s], [p*r, q*s]: block (i,j)
// is a[i,j] times b.
func Kron(t *Tape, a, b *Var) *Var {
	out := t.New(a.Rows*b.Rows, a.Cols*b.Cols)
	out.Needs = a.Needs || b.Needs
	am, bm, o := a.Mat(), b.Mat(), out.Mat()
	eachRow(out.Rows, out.Cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			row, from := o.Row(r), bm.Row(r%b.Rows)
			for j, v := range am.Row(r / b.Rows) {
				to := row[j*b.Cols : (j+1)*b.Cols]
				copy(to, from)
				kernels.Scale(to, v)
			}
		}
	})
	t.record(out, func() {
		dy := out.gradMat()
		if a.Needs {
			bm, m := b.Mat(), t.zeroed(a)
			kernels.Parallel(a.Rows, 1, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					for k := range b.Rows {
						from, row := dy.Row(i*b.Rows+k), bm.Row(k)
						for j := range m.Row(i) {
							m.Row(i)[j] += kernels.Dot(row, from[j*b.Cols:(j+1)*b.Cols])
						}
					}
				}
			})
		}
		if b.Needs {
			am, m := a.Mat(), t.zeroed(b)
			kernels.Parallel(b.Rows, 1, func(lo, hi int) {
				for k := lo; k < hi; k++ {
					for i := range a.Rows {
						from := dy.Row(i*b.Rows + k)
						for j, v := range am.Row(i) {
							kernels.Axpy(v, from[j*b.Cols:(j+1)*b.Cols], m.Row(k))
						}
					}
				}
			})
		}
	}, partners(a, b)...)
	return out
}
