package lokr

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// A row of a layer's input or output is seen here as outer parts of inner elements,
// one after the other, as the Kronecker product sees it.

// grain is about how many elements a task works on.
const grain = 1 << 14

// blend computes part i of each of n rows of dst as the sum of w[i,j] times part j
// of the same row of src, or of w[j,i] with trans; acc adds it. Parts have c elements.
func blend(dst, src []float32, n, c int, w kernels.Mat, trans, acc bool) {
	to, from, di, dj := w.Rows, w.Cols, w.Stride, 1
	if trans {
		to, from, di, dj = from, to, dj, di
	}
	kernels.Parallel(n, max(1, grain/(to*from*c)), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			for i := range to {
				d := dst[(r*to+i)*c:][:c]
				if !acc {
					clear(d)
				}
				for j := range from {
					kernels.Axpy(w.Data[i*di+j*dj], src[(r*from+j)*c:][:c], d)
				}
			}
		}
	})
}

// gramRows is how many rows gram sums up at a time, whatever the number of threads.
const gramRows = 64

// gram adds scale times the sum over n rows of the products of part i of a with part
// j of b to g[i,j].
func gram(g kernels.Mat, a, b []float32, n, c int, scale float32) {
	size := g.Rows * g.Cols
	blocks := (n + gramRows - 1) / gramRows
	sums := make([]float32, blocks*size)
	kernels.Parallel(blocks, 1, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			sum := sums[k*size : (k+1)*size]
			for r := k * gramRows; r < min((k+1)*gramRows, n); r++ {
				for i := range g.Rows {
					x := a[(r*g.Rows+i)*c:][:c]
					for j := range g.Cols {
						sum[i*g.Cols+j] += kernels.Dot(x, b[(r*g.Cols+j)*c:][:c])
					}
				}
			}
		}
	})
	for k := range blocks {
		for i := range g.Rows {
			kernels.Axpy(scale, sums[k*size+i*g.Cols:][:g.Cols], g.Row(i))
		}
	}
}

// gradient returns the gradient buffer of v, zeroed if nothing was added to it yet.
func gradient(t *nn.Tape, v *nn.Var) kernels.Mat {
	m, acc := t.Grad(v)
	if !acc {
		for r := range m.Rows {
			clear(m.Row(r))
		}
	}
	return m
}

// mix is the operation: n rows of parts in z are blended by w; the result has the
// given shape.
func mix(t *nn.Tape, z, w *nn.Var, n, rows, cols int) *nn.Var {
	out := t.New(rows, cols)
	out.Needs = z.Needs || w.Needs
	c := rows * cols / (n * w.Rows)
	blend(out.Data, z.Mat().Data, n, c, w.Mat(), false, false)
	t.Record(out, func() {
		if w.Needs {
			gram(gradient(t, w), out.Grad, z.Mat().Data, n, c, 1)
		}
		if z.Needs {
			m, acc := t.Grad(z)
			blend(m.Data, out.Grad, n, c, w.Mat(), true, acc)
		}
	}, z, w)
	return out
}

// times is the operation x·wᵀ with x seen as rows of w.Cols elements; the result has
// the given shape.
func times(t *nn.Tape, x, w *nn.Var, rows, cols int) *nn.Var {
	out := t.New(rows, cols)
	out.Needs = x.Needs || w.Needs
	seen := func(v []float32, cols int) kernels.Mat { return kernels.MatOf(v, len(v)/cols, cols) }
	kernels.Gemm(seen(out.Data, w.Rows), false, kernels.Term{A: seen(x.Mat().Data, w.Cols), B: w.Mat(), TransB: true})
	t.Record(out, func() {
		dy := seen(out.Grad, w.Rows)
		if w.Needs {
			m, acc := t.Grad(w)
			kernels.Gemm(m, acc, kernels.Term{A: dy, TransA: true, B: seen(x.Mat().Data, w.Cols)})
		}
		if x.Needs {
			m, acc := t.Grad(x)
			kernels.Gemm(seen(m.Data[:x.Rows*x.Cols], w.Cols), acc, kernels.Term{A: dy, B: w.Mat()})
		}
	}, x, w)
	return out
}
