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
		work, pivots := make([]float64, b*b), make([]int, b)
		for i := lo; i < hi; i++ {
			invert(o.RowsOf(i*b, (i+1)*b), xm.RowsOf(i*b, (i+1)*b), work, pivots)
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

// invert is Gauss-Jordan elimination with partial pivoting, in place: the columns of
// the inverse take those of x one by one.
func invert(dst, x kernels.Mat, a []float64, pivots []int) {
	n := x.Rows
	row := func(r int) []float64 { return a[r*n : (r+1)*n] }
	for r := range n {
		for c, v := range x.Row(r) {
			a[r*n+c] = float64(v)
		}
	}
	for c := range n {
		p := c
		for r := c + 1; r < n; r++ {
			if math.Abs(a[r*n+c]) > math.Abs(a[p*n+c]) {
				p = r
			}
		}
		pivots[c] = p
		if a[p*n+c] == 0 {
			for i := range n {
				poisonFill(dst.Row(i))
			}
			return
		}
		ac := row(c)
		if p != c {
			for i, v := range row(p) {
				row(p)[i], ac[i] = ac[i], v
			}
		}
		f := 1 / ac[c]
		ac[c] = 1
		for i := range ac {
			ac[i] *= f
		}
		for r := range n {
			if g := a[r*n+c]; r != c && g != 0 {
				a[r*n+c] = 0
				subtract(row(r), ac, g)
			}
		}
	}
	for c := n - 1; c >= 0; c-- { // rows that were exchanged are columns of the inverse
		if p := pivots[c]; p != c {
			for r := range n {
				a[r*n+p], a[r*n+c] = a[r*n+c], a[r*n+p]
			}
		}
	}
	for r := range n {
		d := dst.Row(r)
		for c, v := range row(r) {
			d[c] = float32(v)
		}
	}
}

// subtract takes g*b from a, four elements a turn.
func subtract(a, b []float64, g float64) {
	for len(a) >= 4 && len(b) >= 4 {
		a[0] -= g * b[0]
		a[1] -= g * b[1]
		a[2] -= g * b[2]
		a[3] -= g * b[3]
		a, b = a[4:], b[4:]
	}
	for i := range a {
		a[i] -= g * b[i]
	}
}
