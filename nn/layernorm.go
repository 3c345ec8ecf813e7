package nn

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// LayerNorm returns (x-mean) / sqrt(variance + eps) * w + b row by row (Ba et
// al. 2016), with the biased variance as in PyTorch. b may be nil.
func LayerNorm(t *Tape, x *Var, w, b *Weight, eps float32) *Var {
	n := x.Cols
	if w.Out*w.In != n || b != nil && b.Out*b.In != n {
		panic(fmt.Sprintf("nn: layer norm weight %s does not have the %d elements of a row", w.Name, n))
	}
	out := t.New(x.Rows, n)
	stats := t.New(x.Rows, 2) // mean, 1/sqrt(variance+eps)
	out.Needs = x.Needs || w.trainable() != nil || b.trainable() != nil

	// normed writes (x-mean)*rstd of row i.
	normed := func(dst []float32, xm kernels.Mat, i int) {
		mean, r := stats.Data[2*i], stats.Data[2*i+1]
		for j, v := range xm.Row(i) {
			dst[j] = (v - mean) * r
		}
	}
	apply := func(dst kernels.Mat) {
		xm, wv := x.Mat(), w.floats()
		var bv []float32
		if b != nil {
			bv = b.floats()
		}
		eachRow(x.Rows, n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				y := dst.Row(i)
				normed(y, xm, i)
				kernels.Mul(y, y, wv)
				if bv != nil {
					kernels.Add(y, y, bv)
				}
			}
		})
	}
	xm := x.Mat()
	eachRow(x.Rows, n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			var sum, sq float64
			for _, v := range xm.Row(i) {
				sum += float64(v)
			}
			mean := sum / float64(n)
			for _, v := range xm.Row(i) {
				d := float64(v) - mean
				sq += d * d
			}
			stats.Data[2*i] = float32(mean)
			stats.Data[2*i+1] = float32(1 / math.Sqrt(sq/float64(n)+float64(eps)))
		}
	})
	apply(out.Mat())

	t.Recomputable(out, apply, x, stats)
	t.record(out, func() {
		dy, xm, wv := out.gradMat(), x.Mat(), w.floats()
		if v := b.trainable(); v != nil {
			columnSum(t.zeroed(v).Data, dy, nil, nil)
		}
		if v := w.trainable(); v != nil {
			h, mem := t.scratch(x.Rows, n)
			eachRow(x.Rows, n, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					normed(h.Row(i), xm, i)
				}
			})
			columnSum(t.zeroed(v).Data, dy, &h, nil)
			t.mem.release(mem)
		}
		if !x.Needs {
			return
		}
		// dx = rstd * (g - mean(g) - h*mean(g∘h)), g = w∘dy, h the normed row
		dx, acc := t.Grad(x)
		eachRow(x.Rows, n, func(lo, hi int) {
			g, h := make([]float32, n), make([]float32, n)
			for i := lo; i < hi; i++ {
				normed(h, xm, i)
				kernels.Mul(g, dy.Row(i), wv)
				sum := 0.0
				for _, v := range g {
					sum += float64(v)
				}
				mean, r := float32(sum/float64(n)), stats.Data[2*i+1]
				kernels.Axpy(-kernels.Dot(g, h)/float32(n), h, g)
				d := dx.Row(i)
				for j, v := range g {
					v = (v - mean) * r
					if acc {
						v += d[j]
					}
					d[j] = v
				}
			}
		})
	}, x, stats)
	t.Discard(stats)
	return out
}
