package generic

import "math"

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

// Exp does dst[i] = exp(x[i]).
func Exp(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = exp(x[i])
	}
}

// Sigmoid does dst[i] = 1/(1+exp(-x[i])).
func Sigmoid(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] = 1 / (1 + exp(-x[i]))
	}
}

// GELU does dst[i] = x[i]*Phi(x[i]), Phi the distribution function of the standard normal.
func GELU(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = v * float32(normal(float64(v)))
	}
}

// GELUSlope does dst[i] = Phi(x[i]) + x[i]*phi(x[i]), the derivative of GELU.
func GELUSlope(dst, x []float32) {
	x = x[:len(dst)]
	for i, f := range x {
		v := float64(f)
		dst[i] = float32(normal(v) + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
	}
}

func normal(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// GELUTanh does dst[i] = x[i]*(1+tanh(z))/2 with z = sqrt(2/pi)*(x[i] + 0.044715*x[i]^3).
func GELUTanh(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] = v * float32(tanhGate(float64(v)))
	}
}

// GELUTanhSlope does dst[i] = the derivative of GELUTanh at x[i].
func GELUTanhSlope(dst, x []float32) {
	x = x[:len(dst)]
	for i, f := range x {
		v := float64(f)
		s := tanhGate(v)
		dst[i] = float32(s + v*s*(1-s)*2*math.Sqrt(2/math.Pi)*(1+3*0.044715*v*v))
	}
}

func tanhGate(x float64) float64 {
	return 1 / (1 + math.Exp(-2*math.Sqrt(2/math.Pi)*x*(1+0.044715*x*x)))
}

// ExpSum does x[i] = exp(x[i]-shift) and returns the sum of the results.
func ExpSum(x []float32, shift float32) float32 {
	var s float64
	for i, v := range x {
		e := exp(v - shift)
		x[i] = e
		s += float64(e)
	}
	return float32(s)
}

// SumExp returns the sum of exp(x[i]-shift) and leaves x alone.
func SumExp(x []float32, shift float32) float32 {
	var s float64
	for _, v := range x {
		s += float64(exp(v - shift))
	}
	return float32(s)
}

// SoftmaxScale does x[i] = s*exp(x[i]-lse).
func SoftmaxScale(x []float32, lse, s float32) {
	for i, v := range x {
		x[i] = s * exp(v-lse)
	}
}

// SwiGLU does dst[i] = gate[i]/(1+exp(-gate[i])) * up[i].
func SwiGLU(dst, gate, up []float32) {
	gate, up = gate[:len(dst)], up[:len(dst)]
	for i, g := range gate {
		dst[i] = g / (1 + exp(-g)) * up[i]
	}
}

// SwiGLUBackward adds the gradients of SwiGLU: with s = 1/(1+exp(-gate)),
// dUp += dOut*gate*s and dGate += dOut*up*s*(1+gate*(1-s)).
func SwiGLUBackward(dGate, dUp, dOut, gate, up []float32) {
	n := len(dOut)
	dGate, dUp, gate, up = dGate[:n], dUp[:n], gate[:n], up[:n]
	for i, d := range dOut {
		g := gate[i]
		s := 1 / (1 + exp(-g))
		dUp[i] += d * (g * s)
		dGate[i] += d * up[i] * (s * (1 + g*(1-s)))
	}
}
