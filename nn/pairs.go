package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// MixPairs mixes columns by pairs: of each group of 2*half columns, column i is
// paired with column i+half, and out[:,i] = own[i]*x[:,i] + other[i]*x[:,pair of i].
// own and other have x.Cols elements. x is kept for their gradients, and the result
// is computed again from it once it is discarded. RoAd (Liao and Monz 2024) rotates
// and scales the outputs of layers with it.
func MixPairs(t *Tape, x, own, other *Var, half int) *Var {
	if half < 1 || x.Cols%(2*half) != 0 || own.Rows*own.Cols != x.Cols || other.Rows*other.Cols != x.Cols {
		panic(fmt.Sprintf("nn: MixPairs of [%d,%d] by %d and %d elements in groups of %d",
			x.Rows, x.Cols, own.Rows*own.Cols, other.Rows*other.Cols, 2*half))
	}
	out := t.New(x.Rows, x.Cols)
	factors := own.Needs || other.Needs
	out.Needs = x.Needs || factors
	apply := func(dst kernels.Mat) {
		xm, a, b := x.Mat(), own.Mat().Data, other.Mat().Data
		eachRow(x.Rows, x.Cols, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				mixPairs(dst.Row(r), xm.Row(r), a, b, half)
			}
		})
	}
	apply(out.Mat())
	var saved []*Var
	if factors {
		saved = append(saved, x)
		t.Recomputable(out, apply, x, own, other)
	}
	if x.Needs {
		saved = append(saved, own, other)
	}
	t.record(out, func() {
		n := x.Cols
		dy := out.gradMat()
		var xm, dx kernels.Mat
		var a, back []float32
		acc := false
		if factors {
			xm = x.Mat()
		}
		if x.Needs {
			// The gradient is mixed by the transpose: the pair's factor for this column.
			a, back = own.Mat().Data, make([]float32, n)
			swapHalves(back, other.Mat().Data, half)
			dx, acc = t.Grad(x)
		}
		rows := func(sum []float32, r0, r1 int) {
			tmp := make([]float32, n)
			for r := r0; r < r1; r++ {
				d := dy.Row(r)
				if factors {
					kernels.MulAdd(sum[:n], d, xm.Row(r))
					mulAddPairs(sum[n:], d, xm.Row(r), half)
				}
				switch {
				case !x.Needs:
				case acc:
					mixPairs(tmp, d, a, back, half)
					kernels.Add(dx.Row(r), dx.Row(r), tmp)
				default:
					mixPairs(dx.Row(r), d, a, back, half)
				}
			}
		}
		if !factors {
			eachRow(x.Rows, n, func(lo, hi int) { rows(nil, lo, hi) })
			return
		}
		sums, mem := t.scratch(2, n)
		clear(sums.Data)
		t.bandSum(sums.Data, x.Rows, rows)
		for i, v := range []*Var{own, other} {
			if v.Needs {
				m, acc := t.Grad(v)
				give(m.Data, sums.Row(i), acc)
			}
		}
		t.mem.release(mem)
	}, saved...)
	return out
}

// short is the number of columns below which a call costs more than a loop.
const short = 8

// mixPairs does dst[i] = own[i]*x[i] + other[i]*x[pair of i].
func mixPairs(dst, x, own, other []float32, half int) {
	kernels.Mul(dst, x, own)
	mulAddPairs(dst, other, x, half)
}

// mulAddPairs does dst[i] += a[i]*x[pair of i].
func mulAddPairs(dst, a, x []float32, half int) {
	for g := 0; g < len(dst); g += 2 * half {
		m, e := g+half, g+2*half
		if half < short {
			for i := g; i < m; i++ {
				dst[i] += a[i] * x[i+half]
				dst[i+half] += a[i+half] * x[i]
			}
			continue
		}
		kernels.MulAdd(dst[g:m], a[g:m], x[m:e])
		kernels.MulAdd(dst[m:e], a[m:e], x[g:m])
	}
}

// swapHalves exchanges the halves of each group.
func swapHalves(dst, src []float32, half int) {
	for g := 0; g < len(dst); g += 2 * half {
		copy(dst[g:g+half], src[g+half:g+2*half])
		copy(dst[g+half:g+2*half], src[g:g+half])
	}
}
