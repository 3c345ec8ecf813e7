package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

func sameShape(op string, a, b *Var) {
	if a.Rows != b.Rows || a.Cols != b.Cols {
		panic(fmt.Sprintf("nn: %s of [%d,%d] and [%d,%d]", op, a.Rows, a.Cols, b.Rows, b.Cols))
	}
}

// Add returns a + b. It takes over the memory of b when nothing recorded reads
// b, so the caller must not use b afterwards: the sum of a residual stream costs
// no memory. Use [Sum] when b is still wanted.
func Add(t *Tape, a, b *Var) *Var { return add(t, a, b, true) }

// Sum returns a + b and leaves both alone.
func Sum(t *Tape, a, b *Var) *Var { return add(t, a, b, false) }

func add(t *Tape, a, b *Var, consume bool) *Var {
	sameShape("sum", a, b)
	am, bm := a.Mat().Data, b.Mat().Data
	var out *Var
	if consume && a != b {
		out = t.takeOver(b, "Add took its memory")
	}
	if out == nil {
		out = t.New(a.Rows, a.Cols)
	}
	out.Needs = a.Needs || b.Needs
	addParallel(out.Data, am, bm)
	t.record(out, func() {
		t.passGrad(b, out)
		t.passGrad(a, out)
	})
	return out
}

// Scale returns x * s.
func Scale(t *Tape, x *Var, s float32) *Var {
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	scaleTo(out.Data, x.Mat().Data, s, false)
	t.record(out, func() {
		m, acc := t.Grad(x)
		scaleTo(m.Data, out.Grad, s, acc)
	})
	return out
}

func scaleTo(dst, src []float32, s float32, acc bool) {
	kernels.Parallel(len(dst), grain, func(lo, hi int) {
		if acc {
			kernels.Axpy(s, src[lo:hi], dst[lo:hi])
			return
		}
		copy(dst[lo:hi], src[lo:hi])
		kernels.Scale(dst[lo:hi], s)
	})
}

// MulRow returns x with every row multiplied by v (1 x cols), element by element.
// With a v that wants a gradient x is kept, and the result is computed again from
// it once it is discarded.
func MulRow(t *Tape, x *Var, v *Var) *Var {
	if v.Rows*v.Cols != x.Cols {
		panic(fmt.Sprintf("nn: MulRow of [%d,%d] by %d elements", x.Rows, x.Cols, v.Rows*v.Cols))
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs || v.Needs
	apply := func(dst kernels.Mat) {
		xm, vm := x.Mat(), v.Mat().Data
		eachRow(x.Rows, x.Cols, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				kernels.Mul(dst.Row(r), xm.Row(r), vm)
			}
		})
	}
	apply(out.Mat())
	if v.Needs {
		t.Recomputable(out, apply, x, v)
	}
	t.record(out, func() {
		var xm, dx kernels.Mat
		var vm []float32
		acc := false
		if v.Needs {
			xm = x.Mat()
		}
		if x.Needs {
			vm = v.Mat().Data
			dx, acc = t.Grad(x)
		}
		dy := out.gradMat()
		back := func(sum []float32, r0, r1 int) {
			for r := r0; r < r1; r++ {
				if v.Needs {
					kernels.MulAdd(sum, dy.Row(r), xm.Row(r))
				}
				switch {
				case !x.Needs:
				case acc:
					kernels.MulAdd(dx.Row(r), dy.Row(r), vm)
				default:
					kernels.Mul(dx.Row(r), dy.Row(r), vm)
				}
			}
		}
		if v.Needs {
			t.bandSum(t.zeroed(v).Data, x.Rows, back)
			return
		}
		eachRow(x.Rows, x.Cols, func(lo, hi int) { back(nil, lo, hi) })
	}, partners(v, x)...)
	return out
}

// Dropout sets each element to zero with probability p and divides the others by
// 1-p, so that the mean stays (Srivastava et al. 2014, inverted). It returns x
// itself when the tape does not train or p is 0. The mask depends on t.Seed, on
// how many dropout operations ran since Reset, and on the element's index, so it
// needs no memory and is the same when the output is computed again.
func Dropout(t *Tape, x *Var, p float32) *Var {
	if !t.Train || p <= 0 {
		return x
	}
	mask := t.newMask(p)
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	apply := func(dst kernels.Mat) {
		src := x.Mat().Data
		kernels.Parallel(len(src), grain, func(lo, hi int) { mask.to(dst.Data[lo:hi], src[lo:hi], lo) })
	}
	apply(out.Mat())
	t.Recomputable(out, apply, x)
	t.recordDropout(out, x, mask)
	return out
}

// BaseDropout is the dropout of a network's own configuration: [Dropout] where
// the tape has BaseDropout, else x itself. It uses up x: where x cannot be computed
// again and nothing recorded reads it, it takes over its memory.
func BaseDropout(t *Tape, x *Var, p float64) *Var {
	if !t.drops(p) {
		return x
	}
	var out *Var
	if x.recompute == nil {
		out = t.takeOver(x, "BaseDropout took its memory")
	}
	if out == nil {
		out = Dropout(t, x, float32(p))
		t.Discard(x)
		return out
	}
	mask := t.newMask(float32(p))
	out.Needs = x.Needs
	kernels.Parallel(len(out.Data), grain, func(lo, hi int) { mask.to(out.Data[lo:hi], out.Data[lo:hi], lo) })
	t.recordDropout(out, x, mask)
	return out
}

// LayerDrop reports whether a step leaves out a whole layer, which it does with
// probability p on tapes with BaseDropout (Fan et al. 2019, arXiv 1909.11556). The
// layer's gradients are zero then, where PyTorch has none.
func LayerDrop(t *Tape, p float64) bool {
	return t.drops(p) && float64(t.draw()>>11)/(1<<53) < p
}

func (t *Tape) recordDropout(out, x *Var, mask dropMask) {
	t.record(out, func() {
		m, acc := t.Grad(x)
		kernels.Parallel(len(m.Data), grain, func(lo, hi int) {
			if acc {
				mask.add(m.Data[lo:hi], out.Grad[lo:hi], lo)
			} else {
				mask.to(m.Data[lo:hi], out.Grad[lo:hi], lo)
			}
		})
	})
}
