package nn

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// elementFunc is a function of one element with its derivative, both on slices
// of at most sliceLen elements.
type elementFunc struct {
	f func(dst, x []float32)
	// slope writes the derivative from x, or with ofResult from the result.
	slope    func(dst, v []float32)
	ofResult bool
}

const sliceLen = 1024

// each calls f on ranges of at most sliceLen elements, from several goroutines.
// f gets scratch for one range.
func each(n int, f func(lo, hi int, tmp []float32)) {
	kernels.Parallel(n, grain, func(lo, hi int) {
		tmp := make([]float32, min(sliceLen, hi-lo))
		for ; lo < hi; lo += sliceLen {
			end := min(lo+sliceLen, hi)
			f(lo, end, tmp[:end-lo])
		}
	})
}

func unary(t *Tape, x *Var, e elementFunc) *Var {
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	src := x.Mat().Data
	kernels.Parallel(len(out.Data), grain, func(lo, hi int) {
		for ; lo < hi; lo += sliceLen {
			end := min(lo+sliceLen, hi)
			e.f(out.Data[lo:end], src[lo:end])
		}
	})
	read := x
	if e.ofResult {
		read = out
	}
	t.record(out, func() {
		v, dy := read.Mat().Data, out.Grad
		m, acc := t.Grad(x)
		each(len(dy), func(lo, hi int, tmp []float32) {
			e.slope(tmp, v[lo:hi])
			mulInto(m.Data[lo:hi], tmp, dy[lo:hi], acc)
		})
	}, read)
	return out
}

// mulInto writes a*b to dst, or adds it, for which it overwrites a.
func mulInto(dst, a, b []float32, add bool) {
	if !add {
		kernels.Mul(dst, a, b)
		return
	}
	kernels.Mul(a, a, b)
	kernels.Add(dst, dst, a)
}

// elements makes a slice function of an element function computed in float64.
func elements(f func(float64) float64) func(dst, x []float32) {
	return func(dst, x []float32) {
		for i, v := range x {
			dst[i] = float32(f(float64(v)))
		}
	}
}

var (
	expFunc  = elementFunc{kernels.Exp, func(dst, y []float32) { copy(dst, y) }, true}
	logFunc  = elementFunc{elements(math.Log), elements(func(x float64) float64 { return 1 / x }), false}
	sqrtFunc = elementFunc{elements(math.Sqrt), elements(func(y float64) float64 { return 0.5 / y }), true}
	sinFunc  = elementFunc{elements(math.Sin), elements(math.Cos), false}
	cosFunc  = elementFunc{elements(math.Cos), elements(func(x float64) float64 { return -math.Sin(x) }), false}
)

// Exp returns exp(x) of every element.
func Exp(t *Tape, x *Var) *Var { return unary(t, x, expFunc) }

// Log returns the natural logarithm of every element: -Inf of 0, NaN of less.
func Log(t *Tape, x *Var) *Var { return unary(t, x, logFunc) }

// Sqrt returns the square root of every element. Its derivative at 0 is infinite.
func Sqrt(t *Tape, x *Var) *Var { return unary(t, x, sqrtFunc) }

// Sin returns the sine of every element, in radians.
func Sin(t *Tape, x *Var) *Var { return unary(t, x, sinFunc) }

// Cos returns the cosine of every element, in radians.
func Cos(t *Tape, x *Var) *Var { return unary(t, x, cosFunc) }

// Clamp returns x limited to [lo, hi]. An element outside gets no gradient, one
// on the limit does, as in PyTorch.
func Clamp(t *Tape, x *Var, lo, hi float32) *Var {
	return unary(t, x, elementFunc{
		f: func(dst, x []float32) {
			for i, v := range x {
				dst[i] = min(max(v, lo), hi)
			}
		},
		slope: func(dst, x []float32) {
			for i, v := range x {
				dst[i] = 0
				if v >= lo && v <= hi {
					dst[i] = 1
				}
			}
		},
	})
}

// AddConst returns x + c.
func AddConst(t *Tape, x *Var, c float32) *Var {
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	src := x.Mat().Data
	kernels.Parallel(len(out.Data), grain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			out.Data[i] = src[i] + c
		}
	})
	t.record(out, func() { t.passGrad(x, out) })
	return out
}

// Detach returns a copy of x that passes no gradient on.
func Detach(t *Tape, x *Var) *Var {
	out := t.New(x.Rows, x.Cols)
	copyParallel(out.Data, x.Mat().Data)
	return out
}
