package nn

import (
	"fmt"
	"math"

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
	if consume && a != b && b.tape == t && b.mem.n > 0 && b.saves == 0 && !t.isPinned(b) {
		t.seq++
		out = &Var{Rows: b.Rows, Cols: b.Cols, tape: t, seq: t.seq, Data: b.Data, mem: b.mem}
		b.mem = block{}
		t.retire(b, "Add took its memory")
	} else {
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
	t.draws++
	key := mix(t.Seed ^ mix(t.draws))
	keep := float32(0)
	if p < 1 {
		keep = 1 / (1 - p)
	}
	limit := uint32(math.Round(math.Min(float64(p), 1) * 65536))
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	apply := func(dst kernels.Mat) {
		src := x.Mat().Data
		kernels.Parallel(len(src), grain, func(lo, hi int) {
			dropoutTo(dst.Data[lo:hi], src[lo:hi], lo, key, limit, keep)
		})
	}
	apply(out.Mat())
	t.Recomputable(out, apply, x)
	t.record(out, func() {
		m, acc := t.Grad(x)
		kernels.Parallel(len(m.Data), grain, func(lo, hi int) {
			if acc {
				dropoutAdd(m.Data[lo:hi], out.Grad[lo:hi], lo, key, limit, keep)
			} else {
				dropoutTo(m.Data[lo:hi], out.Grad[lo:hi], lo, key, limit, keep)
			}
		})
	})
	return out
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// dropoutTo writes masked elements whose indices begin at first, a multiple of 4.
// One hash serves four elements, 16 bits each.
func dropoutTo(dst, src []float32, first int, key uint64, limit uint32, keep float32) {
	var gain [2]float32
	gain[1] = keep
	for i := 0; i < len(dst); i += 4 {
		h := mix(key + uint64(first+i)>>2)
		for j := i; j < min(i+4, len(dst)); j++ {
			dst[j] = src[j] * gain[kept(h, limit)]
			h >>= 16
		}
	}
}

func dropoutAdd(dst, src []float32, first int, key uint64, limit uint32, keep float32) {
	var gain [2]float32
	gain[1] = keep
	for i := 0; i < len(dst); i += 4 {
		h := mix(key + uint64(first+i)>>2)
		for j := i; j < min(i+4, len(dst)); j++ {
			dst[j] += src[j] * gain[kept(h, limit)]
			h >>= 16
		}
	}
}

// kept is 1 when the low 16 bits of h are at least limit.
func kept(h uint64, limit uint32) uint32 { return 1 ^ (uint32(h&0xffff)-limit)>>31 }
