//go:build amd64 && !noasm

package kernels

import (
	"github.com/peftkit/peftkit/kernels/amd64"
	"github.com/peftkit/peftkit/kernels/generic"
)

// span is the number of elements that one call into assembly handles: it cannot
// be preempted, so it must end within some tens of microseconds.
const span = 1 << 14

func axpy(alpha float32, x, y []float32) {
	if active == levelGeneric {
		generic.Axpy(alpha, x, y)
		return
	}
	for len(x) > 0 {
		n := min(len(x), span)
		if active == levelAVX512 {
			amd64.AxpyAVX512(n, &x[0], &y[0], alpha)
		} else {
			amd64.AxpyAVX2(n, &x[0], &y[0], alpha)
		}
		x, y = x[n:], y[n:]
	}
}

func add(dst, a, b []float32) {
	if active == levelGeneric {
		generic.Add(dst, a, b)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.AddAVX512(n, &dst[0], &a[0], &b[0])
		} else {
			amd64.AddAVX2(n, &dst[0], &a[0], &b[0])
		}
		dst, a, b = dst[n:], a[n:], b[n:]
	}
}

func mul(dst, a, b []float32) {
	if active == levelGeneric {
		generic.Mul(dst, a, b)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.MulAVX512(n, &dst[0], &a[0], &b[0])
		} else {
			amd64.MulAVX2(n, &dst[0], &a[0], &b[0])
		}
		dst, a, b = dst[n:], a[n:], b[n:]
	}
}

func mulAdd(dst, a, b []float32) {
	if active == levelGeneric {
		generic.MulAdd(dst, a, b)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.MulAddAVX512(n, &dst[0], &a[0], &b[0])
		} else {
			amd64.MulAddAVX2(n, &dst[0], &a[0], &b[0])
		}
		dst, a, b = dst[n:], a[n:], b[n:]
	}
}

func scale(dst []float32, s float32) {
	if active == levelGeneric {
		generic.Scale(dst, s)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.ScaleAVX512(n, &dst[0], s)
		} else {
			amd64.ScaleAVX2(n, &dst[0], s)
		}
		dst = dst[n:]
	}
}

func expTo(dst, x []float32) {
	if active == levelGeneric {
		generic.Exp(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.ExpAVX512(n, &dst[0], &x[0])
		} else {
			amd64.ExpAVX2(n, &dst[0], &x[0])
		}
		dst, x = dst[n:], x[n:]
	}
}

func sigmoid(dst, x []float32) {
	if active == levelGeneric {
		generic.Sigmoid(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.SigmoidAVX512(n, &dst[0], &x[0])
		} else {
			amd64.SigmoidAVX2(n, &dst[0], &x[0])
		}
		dst, x = dst[n:], x[n:]
	}
}

func gelu(dst, x []float32) {
	if active == levelGeneric {
		generic.GELU(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.GELUAVX512(n, &dst[0], &x[0])
		} else {
			amd64.GELUAVX2(n, &dst[0], &x[0])
		}
		dst, x = dst[n:], x[n:]
	}
}

func geluSlope(dst, x []float32) {
	if active == levelGeneric {
		generic.GELUSlope(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.GELUSlopeAVX512(n, &dst[0], &x[0])
		} else {
			amd64.GELUSlopeAVX2(n, &dst[0], &x[0])
		}
		dst, x = dst[n:], x[n:]
	}
}

func geluTanh(dst, x []float32) {
	if active == levelGeneric {
		generic.GELUTanh(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.GELUTanhAVX512(n, &dst[0], &x[0])
		} else {
			amd64.GELUTanhAVX2(n, &dst[0], &x[0])
		}
		dst, x = dst[n:], x[n:]
	}
}

func geluTanhSlope(dst, x []float32) {
	if active == levelGeneric {
		generic.GELUTanhSlope(dst, x)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.GELUTanhSlopeAVX512(n, &dst[0], &x[0])
		} else {
			amd64.GELUTanhSlopeAVX2(n, &dst[0], &x[0])
		}
		dst, x = dst[n:], x[n:]
	}
}

func softmaxScale(x []float32, lse, s float32) {
	if active == levelGeneric {
		generic.SoftmaxScale(x, lse, s)
		return
	}
	for len(x) > 0 {
		n := min(len(x), span)
		if active == levelAVX512 {
			amd64.SoftmaxScaleAVX512(n, &x[0], lse, s)
		} else {
			amd64.SoftmaxScaleAVX2(n, &x[0], lse, s)
		}
		x = x[n:]
	}
}

func swiGLU(dst, gate, up []float32) {
	if active == levelGeneric {
		generic.SwiGLU(dst, gate, up)
		return
	}
	for len(dst) > 0 {
		n := min(len(dst), span)
		if active == levelAVX512 {
			amd64.SwiGLUAVX512(n, &dst[0], &gate[0], &up[0])
		} else {
			amd64.SwiGLUAVX2(n, &dst[0], &gate[0], &up[0])
		}
		dst, gate, up = dst[n:], gate[n:], up[n:]
	}
}

func swiGLUBackward(dGate, dUp, dOut, gate, up []float32) {
	if active == levelGeneric {
		generic.SwiGLUBackward(dGate, dUp, dOut, gate, up)
		return
	}
	for len(dOut) > 0 {
		n := min(len(dOut), span)
		if active == levelAVX512 {
			amd64.SwiGLUBackwardAVX512(n, &dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0])
		} else {
			amd64.SwiGLUBackwardAVX2(n, &dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0])
		}
		dGate, dUp, dOut, gate, up = dGate[n:], dUp[n:], dOut[n:], gate[n:], up[n:]
	}
}

func adamW(p, g, m, v []float32, c *[7]float32) {
	if active == levelGeneric {
		generic.AdamW(p, g, m, v, c)
		return
	}
	for len(p) > 0 {
		n := min(len(p), span)
		if active == levelAVX512 {
			amd64.AdamWAVX512(n, &p[0], &g[0], &m[0], &v[0], c)
		} else {
			amd64.AdamWAVX2(n, &p[0], &g[0], &m[0], &v[0], c)
		}
		p, g, m, v = p[n:], g[n:], m[n:], v[n:]
	}
}

func dot(a, b []float32) float32 {
	if active == levelGeneric {
		return generic.Dot(a, b)
	}
	var sum float32
	for len(a) > 0 {
		n := min(len(a), span)
		if active == levelAVX512 {
			sum += amd64.DotAVX512(n, &a[0], &b[0])
		} else {
			sum += amd64.DotAVX2(n, &a[0], &b[0])
		}
		a, b = a[n:], b[n:]
	}
	return sum
}

func maxOf(x []float32) float32 {
	if active == levelGeneric {
		return generic.Max(x)
	}
	sum := generic.Max(nil)
	for len(x) > 0 {
		n := min(len(x), span)
		if active == levelAVX512 {
			sum = max(sum, amd64.MaxAVX512(n, &x[0]))
		} else {
			sum = max(sum, amd64.MaxAVX2(n, &x[0]))
		}
		x = x[n:]
	}
	return sum
}

func expSum(x []float32, shift float32) float32 {
	if active == levelGeneric {
		return generic.ExpSum(x, shift)
	}
	var sum float32
	for len(x) > 0 {
		n := min(len(x), span)
		if active == levelAVX512 {
			sum += amd64.ExpSumAVX512(n, &x[0], shift)
		} else {
			sum += amd64.ExpSumAVX2(n, &x[0], shift)
		}
		x = x[n:]
	}
	return sum
}

func sumExp(x []float32, shift float32) float32 {
	if active == levelGeneric {
		return generic.SumExp(x, shift)
	}
	var sum float32
	for len(x) > 0 {
		n := min(len(x), span)
		if active == levelAVX512 {
			sum += amd64.SumExpAVX512(n, &x[0], shift)
		} else {
			sum += amd64.SumExpAVX2(n, &x[0], shift)
		}
		x = x[n:]
	}
	return sum
}
