package nn

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// RMSNorm returns x / sqrt(mean(x²) + eps) * w row by row (Zhang and Sennrich
// 2019). A w that is shorter than a row, and divides it, norms the pieces of the
// row one by one with the same w: the query and key norms of Qwen3.
func RMSNorm(t *Tape, x *Var, w *Weight, eps float32) *Var {
	return rmsNorm(t, x, w, eps, w.floats)
}

// RMSNormPlus1 is RMSNorm with 1+w in place of w: the norm of Gemma.
func RMSNormPlus1(t *Tape, x *Var, w *Weight, eps float32) *Var {
	var gains []float32
	return rmsNorm(t, x, w, eps, func() []float32 {
		if gains == nil { // the weight does not change between forward and backward
			gains = append(gains, w.floats()...)
			for i := range gains {
				gains[i]++
			}
		}
		return gains
	})
}

// rmsNorm multiplies by gains, whose gradient is that of w.
func rmsNorm(t *Tape, x *Var, w *Weight, eps float32, gains func() []float32) *Var {
	n := w.Out * w.In
	if n == 0 || x.Cols%n != 0 {
		panic(fmt.Sprintf("nn: norm weight %s has %d elements, rows have %d", w.Name, n, x.Cols))
	}
	out := t.New(x.Rows, x.Cols)
	rstd := t.New(x.Rows, x.Cols/n)
	out.Needs = x.Needs || w.trainable() != nil

	pieces := x.Rows * rstd.Cols
	split := func(m kernels.Mat) kernels.Mat { return kernels.MatOf(m.Data, pieces, n) }
	apply := func(dst kernels.Mat) {
		y, xm, r, wv := split(dst), split(x.Mat()), rstd.Data, gains()
		eachRow(pieces, n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				kernels.Mul(y.Row(i), xm.Row(i), wv)
				kernels.Scale(y.Row(i), r[i])
			}
		})
	}
	xm := split(x.Mat())
	eachRow(pieces, n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			ms := float64(kernels.SumSquares(xm.Row(i))) / float64(n)
			rstd.Data[i] = float32(1 / math.Sqrt(ms+float64(eps)))
		}
	})
	apply(out.Mat())

	t.Recomputable(out, apply, x, rstd)
	t.record(out, func() {
		dy, xm, r, wv := split(out.gradMat()), split(x.Mat()), rstd.Data, gains()
		if v := w.trainable(); v != nil {
			columnSum(t.zeroed(v).Data, dy, &xm, r)
		}
		if !x.Needs {
			return
		}
		// dx = rstd*(w∘dy) - x * rstd³/n * <w∘dy, x>
		m, acc := t.Grad(x)
		dx := split(m)
		eachRow(pieces, n, func(lo, hi int) {
			tmp := make([]float32, n)
			for i := lo; i < hi; i++ {
				g, xi, d := tmp, xm.Row(i), dx.Row(i)
				if !acc {
					g = d
				}
				kernels.Mul(g, dy.Row(i), wv)
				c := kernels.Dot(g, xi) * r[i] * r[i] * r[i] / float32(n)
				if acc {
					kernels.Axpy(r[i], g, d)
				} else {
					kernels.Scale(d, r[i])
				}
				kernels.Axpy(-c, xi, d)
			}
		})
	}, x, rstd)
	t.Discard(rstd)
	return out
}
