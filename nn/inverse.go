package nn

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// Inverse returns the inverses of n square matrices that lie one below the other,
// [n*b, b]. They are computed in float64; a singular matrix gives NaN.
func Inverse(t *Tape, x *Var, n int) *Var {
	b := split("Inverse", x.Rows, n)
	if b != x.Cols {
		panic(fmt.Sprintf("nn: Inverse of %d matrices [%d,%d]", n, b, x.Cols))
	}
	out := t.New(x.Rows, b)
	out.Needs = x.Needs
	xm, o := x.Mat(), out.Mat()
	kernels.Parallel(n, 1, func(lo, hi int) {
		work := make([]float64, 2*b*b)
		for i := lo; i < hi; i++ {
			invert(o.RowsOf(i*b, (i+1)*b), xm.RowsOf(i*b, (i+1)*b), work)
		}
	})
	t.record(out, func() {
		// dX = -Yᵀ·dY·Yᵀ
		y, dy := out.Mat(), out.gradMat()
		m, acc := t.Grad(x)
		tmp, mem := t.scratch(x.Rows, b)
		eachMatrix(n, func(i int) {
			yi, z := y.RowsOf(i*b, (i+1)*b), tmp.RowsOf(i*b, (i+1)*b)
			kernels.Gemm(z, false, kernels.Term{A: dy.RowsOf(i*b, (i+1)*b), B: yi, TransB: true})
			kernels.Gemm(m.RowsOf(i*b, (i+1)*b), acc, kernels.Term{A: yi, TransA: true, B: z, Scale: -1})
		})
		t.mem.release(mem)
	}, out)
	return out
}

// invert is Gauss-Jordan elimination with partial pivoting on [x | 1].
func invert(dst, x kernels.Mat, work []float64) {
	n := x.Rows
	a, inv := work[:n*n], work[n*n:]
	clear(inv)
	for r := range n {
		for c, v := range x.Row(r) {
			a[r*n+c] = float64(v)
		}
		inv[r*n+r] = 1
	}
	row := func(m []float64, r int) []float64 { return m[r*n : (r+1)*n] }
	for c := range n {
		p := c
		for r := c + 1; r < n; r++ {
			if math.Abs(a[r*n+c]) > math.Abs(a[p*n+c]) {
				p = r
			}
		}
		if a[p*n+c] == 0 {
			for i := range n {
				poisonFill(dst.Row(i))
			}
			return
		}
		if p != c {
			for i := range n {
				a[p*n+i], a[c*n+i] = a[c*n+i], a[p*n+i]
				inv[p*n+i], inv[c*n+i] = inv[c*n+i], inv[p*n+i]
			}
		}
		f := 1 / a[c*n+c]
		for i := range n {
			a[c*n+i] *= f
			inv[c*n+i] *= f
		}
		ac, ic := row(a, c), row(inv, c)
		for r := range n {
			g := a[r*n+c]
			if r == c || g == 0 {
				continue
			}
			ar, ir := row(a, r), row(inv, r)
			for i := c; i < n; i++ {
				ar[i] -= g * ac[i]
			}
			for i := range ir {
				ir[i] -= g * ic[i]
			}
		}
	}
	for r := range n {
		d := dst.Row(r)
		for c, v := range row(inv, r) {
			d[c] = float32(v)
		}
	}
}
