package nn

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// The tanh approximation of GELU is x*sigmoid(u) with u = a*x + b*x³:
// (1+tanh(z))/2 = sigmoid(2z).
var (
	geluA = float32(2 * math.Sqrt(2/math.Pi))
	geluB = float32(2 * math.Sqrt(2/math.Pi) * 0.044715)
)

// geluBlock is the number of elements for which scratch lies on the stack.
const geluBlock = 512

// geluGate writes sigmoid(a*x + b*x³). dst and x must not overlap.
func geluGate(dst, x []float32) {
	for i, v := range x {
		dst[i] = v * (geluA + geluB*v*v)
	}
	kernels.Sigmoid(dst, dst[:len(x)])
}

// geluSlope is the derivative of the tanh approximation at x, whose gate is s.
func geluSlope(x, s float32) float32 {
	return s + x*s*(1-s)*(geluA+3*geluB*x*x)
}

// blocks calls f for pieces of n elements that fit geluBlock, split between goroutines.
func blocks(n int, f func(lo, hi int, tmp []float32)) {
	kernels.Parallel(n, grain, func(lo, hi int) {
		var tmp [geluBlock]float32
		for ; lo < hi; lo += geluBlock {
			end := min(lo+geluBlock, hi)
			f(lo, end, tmp[:end-lo])
		}
	})
}

// GELUNew returns the tanh approximation of GELU (gelu_new, gelu_pytorch_tanh) of
// every element of x. The output can be recomputed.
func GELUNew(t *Tape, x *Var) *Var {
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	apply := func(dst kernels.Mat) {
		src := x.Mat().Data
		blocks(len(src), func(lo, hi int, s []float32) {
			geluGate(s, src[lo:hi])
			kernels.Mul(dst.Data[lo:hi], src[lo:hi], s)
		})
	}
	apply(out.Mat())
	t.Recomputable(out, apply, x)
	t.record(out, func() {
		src, dy := x.Mat().Data, out.Grad
		m, acc := t.Grad(x)
		blocks(len(src), func(lo, hi int, s []float32) {
			geluGate(s, src[lo:hi])
			for i, v := range src[lo:hi] {
				s[i] = geluSlope(v, s[i]) * dy[lo+i]
			}
			addOrCopy(m.Data[lo:hi], s, acc)
		})
	}, x)
	return out
}

func addOrCopy(dst, src []float32, add bool) {
	if add {
		kernels.Add(dst, dst, src)
		return
	}
	copy(dst, src)
}

// GEGLU returns gelu(gate) * up with the tanh approximation of GELU (Shazeer
// 2020): the feed-forward layer of Gemma and of T5 1.1. The output can be
// recomputed.
func GEGLU(t *Tape, gate, up *Var) *Var {
	sameShape("GEGLU", gate, up)
	out := t.New(gate.Rows, gate.Cols)
	out.Needs = gate.Needs || up.Needs
	apply := func(dst kernels.Mat) {
		g, u := gate.Mat().Data, up.Mat().Data
		blocks(len(g), func(lo, hi int, s []float32) {
			geluGate(s, g[lo:hi])
			kernels.Mul(s, s, g[lo:hi])
			kernels.Mul(dst.Data[lo:hi], s, u[lo:hi])
		})
	}
	apply(out.Mat())
	t.Recomputable(out, apply, gate, up)
	t.record(out, func() {
		g, u, dy := gate.Mat().Data, up.Mat().Data, out.Grad
		if gate.Needs {
			m, acc := t.Grad(gate)
			blocks(len(g), func(lo, hi int, s []float32) {
				geluGate(s, g[lo:hi])
				for i, v := range g[lo:hi] {
					s[i] = geluSlope(v, s[i]) * u[lo+i] * dy[lo+i]
				}
				addOrCopy(m.Data[lo:hi], s, acc)
			})
		}
		if up.Needs {
			m, acc := t.Grad(up)
			blocks(len(g), func(lo, hi int, s []float32) {
				geluGate(s, g[lo:hi])
				kernels.Mul(s, s, g[lo:hi])
				kernels.Mul(s, s, dy[lo:hi])
				addOrCopy(m.Data[lo:hi], s, acc)
			})
		}
	}, gate, up)
	return out
}

// Gated returns f(gate) * up.
func Gated(t *Tape, f Activation, gate, up *Var) *Var {
	switch f.Name {
	case SiLU.Name:
		return SwiGLU(t, gate, up)
	case GELUTanh.Name:
		return GEGLU(t, gate, up)
	}
	a := Apply(t, gate, f)
	out := Mul(t, a, up)
	t.Discard(a)
	return out
}
