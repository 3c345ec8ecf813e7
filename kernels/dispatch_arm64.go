//go:build arm64 && !noasm

package kernels

import (
	"math"

	"github.com/peftkit/peftkit/kernels/arm64"
	"github.com/peftkit/peftkit/kernels/generic"
)

// span is the number of elements that one call into assembly handles: it cannot
// be preempted, so it must end within some tens of microseconds.
const span = 1 << 14

// The assembly works on whole vectors of four. The last elements are copied into
// one, so that they get the same arithmetic as all others.

func axpy(alpha float32, x, y []float32) {
	if active == levelGeneric {
		generic.Axpy(alpha, x, y)
		return
	}
	for len(x) >= 4 {
		n := min(len(x)&^3, span)
		arm64.AxpyNEON(n, &x[0], &y[0], alpha)
		x, y = x[n:], y[n:]
	}
	if n := len(x); n > 0 {
		var t [2][4]float32
		copy(t[0][:], x[:n])
		copy(t[1][:], y[:n])
		arm64.AxpyNEON(4, &t[0][0], &t[1][0], alpha)
		copy(y, t[1][:n])
	}
}

func add(dst, a, b []float32) {
	if active == levelGeneric {
		generic.Add(dst, a, b)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.AddNEON(n, &dst[0], &a[0], &b[0])
		dst, a, b = dst[n:], a[n:], b[n:]
	}
	if n := len(dst); n > 0 {
		var t [3][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], a[:n])
		copy(t[2][:], b[:n])
		arm64.AddNEON(4, &t[0][0], &t[1][0], &t[2][0])
		copy(dst, t[0][:n])
	}
}

func mul(dst, a, b []float32) {
	if active == levelGeneric {
		generic.Mul(dst, a, b)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.MulNEON(n, &dst[0], &a[0], &b[0])
		dst, a, b = dst[n:], a[n:], b[n:]
	}
	if n := len(dst); n > 0 {
		var t [3][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], a[:n])
		copy(t[2][:], b[:n])
		arm64.MulNEON(4, &t[0][0], &t[1][0], &t[2][0])
		copy(dst, t[0][:n])
	}
}

func mulAdd(dst, a, b []float32) {
	if active == levelGeneric {
		generic.MulAdd(dst, a, b)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.MulAddNEON(n, &dst[0], &a[0], &b[0])
		dst, a, b = dst[n:], a[n:], b[n:]
	}
	if n := len(dst); n > 0 {
		var t [3][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], a[:n])
		copy(t[2][:], b[:n])
		arm64.MulAddNEON(4, &t[0][0], &t[1][0], &t[2][0])
		copy(dst, t[0][:n])
	}
}

func scale(dst []float32, s float32) {
	if active == levelGeneric {
		generic.Scale(dst, s)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.ScaleNEON(n, &dst[0], s)
		dst = dst[n:]
	}
	if n := len(dst); n > 0 {
		var t [1][4]float32
		copy(t[0][:], dst[:n])
		arm64.ScaleNEON(4, &t[0][0], s)
		copy(dst, t[0][:n])
	}
}

func expTo(dst, x []float32) {
	if active == levelGeneric {
		generic.Exp(dst, x)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.ExpNEON(n, &dst[0], &x[0])
		dst, x = dst[n:], x[n:]
	}
	if n := len(dst); n > 0 {
		var t [2][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], x[:n])
		arm64.ExpNEON(4, &t[0][0], &t[1][0])
		copy(dst, t[0][:n])
	}
}

func sigmoid(dst, x []float32) {
	if active == levelGeneric {
		generic.Sigmoid(dst, x)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.SigmoidNEON(n, &dst[0], &x[0])
		dst, x = dst[n:], x[n:]
	}
	if n := len(dst); n > 0 {
		var t [2][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], x[:n])
		arm64.SigmoidNEON(4, &t[0][0], &t[1][0])
		copy(dst, t[0][:n])
	}
}

func gelu(dst, x []float32) {
	if active == levelGeneric {
		generic.GELU(dst, x)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.GELUNEON(n, &dst[0], &x[0])
		dst, x = dst[n:], x[n:]
	}
	if n := len(dst); n > 0 {
		var t [2][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], x[:n])
		arm64.GELUNEON(4, &t[0][0], &t[1][0])
		copy(dst, t[0][:n])
	}
}

func geluSlope(dst, x []float32) {
	if active == levelGeneric {
		generic.GELUSlope(dst, x)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.GELUSlopeNEON(n, &dst[0], &x[0])
		dst, x = dst[n:], x[n:]
	}
	if n := len(dst); n > 0 {
		var t [2][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], x[:n])
		arm64.GELUSlopeNEON(4, &t[0][0], &t[1][0])
		copy(dst, t[0][:n])
	}
}

func geluTanh(dst, x []float32) {
	if active == levelGeneric {
		generic.GELUTanh(dst, x)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.GELUTanhNEON(n, &dst[0], &x[0])
		dst, x = dst[n:], x[n:]
	}
	if n := len(dst); n > 0 {
		var t [2][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], x[:n])
		arm64.GELUTanhNEON(4, &t[0][0], &t[1][0])
		copy(dst, t[0][:n])
	}
}

func geluTanhSlope(dst, x []float32) {
	if active == levelGeneric {
		generic.GELUTanhSlope(dst, x)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.GELUTanhSlopeNEON(n, &dst[0], &x[0])
		dst, x = dst[n:], x[n:]
	}
	if n := len(dst); n > 0 {
		var t [2][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], x[:n])
		arm64.GELUTanhSlopeNEON(4, &t[0][0], &t[1][0])
		copy(dst, t[0][:n])
	}
}

func softmaxScale(x []float32, lse, s float32) {
	if active == levelGeneric {
		generic.SoftmaxScale(x, lse, s)
		return
	}
	for len(x) >= 4 {
		n := min(len(x)&^3, span)
		arm64.SoftmaxScaleNEON(n, &x[0], lse, s)
		x = x[n:]
	}
	if n := len(x); n > 0 {
		var t [1][4]float32
		copy(t[0][:], x[:n])
		arm64.SoftmaxScaleNEON(4, &t[0][0], lse, s)
		copy(x, t[0][:n])
	}
}

func swiGLU(dst, gate, up []float32) {
	if active == levelGeneric {
		generic.SwiGLU(dst, gate, up)
		return
	}
	for len(dst) >= 4 {
		n := min(len(dst)&^3, span)
		arm64.SwiGLUNEON(n, &dst[0], &gate[0], &up[0])
		dst, gate, up = dst[n:], gate[n:], up[n:]
	}
	if n := len(dst); n > 0 {
		var t [3][4]float32
		copy(t[0][:], dst[:n])
		copy(t[1][:], gate[:n])
		copy(t[2][:], up[:n])
		arm64.SwiGLUNEON(4, &t[0][0], &t[1][0], &t[2][0])
		copy(dst, t[0][:n])
	}
}

func swiGLUBackward(dGate, dUp, dOut, gate, up []float32) {
	if active == levelGeneric {
		generic.SwiGLUBackward(dGate, dUp, dOut, gate, up)
		return
	}
	for len(dOut) >= 4 {
		n := min(len(dOut)&^3, span)
		arm64.SwiGLUBackwardNEON(n, &dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0])
		dGate, dUp, dOut, gate, up = dGate[n:], dUp[n:], dOut[n:], gate[n:], up[n:]
	}
	if n := len(dOut); n > 0 {
		var t [5][4]float32
		copy(t[0][:], dGate[:n])
		copy(t[1][:], dUp[:n])
		copy(t[2][:], dOut[:n])
		copy(t[3][:], gate[:n])
		copy(t[4][:], up[:n])
		arm64.SwiGLUBackwardNEON(4, &t[0][0], &t[1][0], &t[2][0], &t[3][0], &t[4][0])
		copy(dGate, t[0][:n])
		copy(dUp, t[1][:n])
	}
}

func adamW(p, g, m, v []float32, c *[7]float32) {
	if active == levelGeneric {
		generic.AdamW(p, g, m, v, c)
		return
	}
	for len(p) >= 4 {
		n := min(len(p)&^3, span)
		arm64.AdamWNEON(n, &p[0], &g[0], &m[0], &v[0], c)
		p, g, m, v = p[n:], g[n:], m[n:], v[n:]
	}
	if n := len(p); n > 0 {
		var t [4][4]float32
		copy(t[0][:], p[:n])
		copy(t[1][:], g[:n])
		copy(t[2][:], m[:n])
		copy(t[3][:], v[:n])
		arm64.AdamWNEON(4, &t[0][0], &t[1][0], &t[2][0], &t[3][0], c)
		copy(p, t[0][:n])
		copy(m, t[2][:n])
		copy(v, t[3][:n])
	}
}

func dot(a, b []float32) float32 {
	if active == levelGeneric {
		return generic.Dot(a, b)
	}
	var sum float32
	for len(a) >= 4 {
		n := min(len(a)&^3, span)
		sum += arm64.DotNEON(n, &a[0], &b[0])
		a, b = a[n:], b[n:]
	}
	if n := len(a); n > 0 {
		var t [2][4]float32
		copy(t[0][:], a[:n])
		copy(t[1][:], b[:n])
		sum += arm64.DotNEON(4, &t[0][0], &t[1][0])
	}
	return sum
}

func maxOf(x []float32) float32 {
	if active == levelGeneric {
		return generic.Max(x)
	}
	sum := float32(math.Inf(-1))
	for len(x) >= 4 {
		n := min(len(x)&^3, span)
		sum = max(sum, arm64.MaxNEON(n, &x[0]))
		x = x[n:]
	}
	if n := len(x); n > 0 {
		var t [1][4]float32
		for i := n; i < 4; i++ {
			t[0][i] = float32(math.Inf(-1))
		}
		copy(t[0][:], x[:n])
		sum = max(sum, arm64.MaxNEON(4, &t[0][0]))
	}
	return sum
}

func expSum(x []float32, shift float32) float32 {
	if active == levelGeneric {
		return generic.ExpSum(x, shift)
	}
	var sum float32
	for len(x) >= 4 {
		n := min(len(x)&^3, span)
		sum += arm64.ExpSumNEON(n, &x[0], shift)
		x = x[n:]
	}
	if n := len(x); n > 0 {
		var t [1][4]float32
		for i := n; i < 4; i++ {
			t[0][i] = float32(math.Inf(-1))
		}
		copy(t[0][:], x[:n])
		sum += arm64.ExpSumNEON(4, &t[0][0], shift)
		copy(x, t[0][:n])
	}
	return sum
}

func sumExp(x []float32, shift float32) float32 {
	if active == levelGeneric {
		return generic.SumExp(x, shift)
	}
	var sum float32
	for len(x) >= 4 {
		n := min(len(x)&^3, span)
		sum += arm64.SumExpNEON(n, &x[0], shift)
		x = x[n:]
	}
	if n := len(x); n > 0 {
		var t [1][4]float32
		for i := n; i < 4; i++ {
			t[0][i] = float32(math.Inf(-1))
		}
		copy(t[0][:], x[:n])
		sum += arm64.SumExpNEON(4, &t[0][0], shift)
	}
	return sum
}
