package kernels

import (
	"math"
	"strconv"

	"github.com/peftkit/peftkit/kernels/generic"
)

// The routines in this file work on one slice each, on the calling goroutine.
// Slices named together must have at least the length of the first; a shorter
// one is a mistake of the caller and panics as an index out of range does.
// dst may be one of the inputs unless a routine says otherwise.

// Dot returns the sum of a[i]*b[i]. The order of the sum depends on the tier and
// on len(a) only.
func Dot(a, b []float32) float32 {
	if model != nil {
		return model.Dot(a, b[:len(a)])
	}
	return dot(a, b[:len(a)])
}

// Axpy does y[i] += alpha*x[i].
func Axpy(alpha float32, x, y []float32) {
	if model != nil {
		model.Axpy(x, y[:len(x)], alpha)
		return
	}
	axpy(alpha, x, y[:len(x)])
}

// Add does dst[i] = a[i] + b[i].
func Add(dst, a, b []float32) {
	if model != nil {
		model.Add(dst, a[:len(dst)], b[:len(dst)])
		return
	}
	add(dst, a[:len(dst)], b[:len(dst)])
}

// Mul does dst[i] = a[i] * b[i].
func Mul(dst, a, b []float32) {
	if model != nil {
		model.Mul(dst, a[:len(dst)], b[:len(dst)])
		return
	}
	mul(dst, a[:len(dst)], b[:len(dst)])
}

// MulAdd does dst[i] += a[i] * b[i].
func MulAdd(dst, a, b []float32) {
	if model != nil {
		model.MulAdd(dst, a[:len(dst)], b[:len(dst)])
		return
	}
	mulAdd(dst, a[:len(dst)], b[:len(dst)])
}

// Scale does dst[i] *= s.
func Scale(dst []float32, s float32) {
	if model != nil {
		model.Scale(dst, s)
		return
	}
	scale(dst, s)
}

// SumSquares returns the sum of x[i]*x[i].
func SumSquares(x []float32) float32 {
	if model != nil {
		return model.Dot(x, x)
	}
	return dot(x, x)
}

// Max returns the largest element, -Inf for none. It may pass over NaN.
func Max(x []float32) float32 {
	if model != nil {
		return model.Max(x)
	}
	return maxOf(x)
}

// Exp does dst[i] = exp(x[i]) with an error of at most 2 units in the last
// place; results below the normal range are subnormal, not zero.
func Exp(dst, x []float32) {
	if model != nil {
		model.Exp(dst, x[:len(dst)])
		return
	}
	expTo(dst, x[:len(dst)])
}

// ExpSum does x[i] = exp(x[i]-shift) and returns the sum of the results: the
// softmax of a row that comes in pieces.
func ExpSum(x []float32, shift float32) float32 {
	if model != nil {
		return model.ExpSum(x, shift)
	}
	return expSum(x, shift)
}

// Sigmoid does dst[i] = 1/(1+exp(-x[i])).
func Sigmoid(dst, x []float32) {
	if model != nil {
		model.Sigmoid(dst, x[:len(dst)])
		return
	}
	sigmoid(dst, x[:len(dst)])
}

// GELU does dst[i] = x[i]*Phi(x[i]), Phi the distribution function of the standard
// normal: the form with the error function (Hendrycks and Gimpel 2016), which
// PyTorch calls approximate="none". The absolute error of Phi is below 3e-7.
func GELU(dst, x []float32) {
	if model != nil {
		model.GELU(dst, x[:len(dst)])
		return
	}
	gelu(dst, x[:len(dst)])
}

// GELUSlope does dst[i] = Phi(x[i]) + x[i]*phi(x[i]), the derivative of GELU, phi
// being that of Phi.
func GELUSlope(dst, x []float32) {
	if model != nil {
		model.GELUSlope(dst, x[:len(dst)])
		return
	}
	geluSlope(dst, x[:len(dst)])
}

// GELUTanh does dst[i] = x[i]*(1+tanh(z))/2 with z = sqrt(2/pi)*(x[i] + 0.044715*x[i]^3),
// which PyTorch calls approximate="tanh".
func GELUTanh(dst, x []float32) {
	if model != nil {
		model.GELUTanh(dst, x[:len(dst)])
		return
	}
	geluTanh(dst, x[:len(dst)])
}

// GELUTanhSlope does dst[i] = the derivative of GELUTanh at x[i].
func GELUTanhSlope(dst, x []float32) {
	if model != nil {
		model.GELUTanhSlope(dst, x[:len(dst)])
		return
	}
	geluTanhSlope(dst, x[:len(dst)])
}

// Softmax replaces x by exp(x-max) divided by their sum. An element -Inf
// becomes 0; a NaN, a +Inf or a row of -Inf gives NaN, as in PyTorch.
func Softmax(x []float32) {
	if len(x) == 0 {
		return
	}
	Scale(x, 1/ExpSum(x, Max(x)))
}

// LogSumExp returns log(sum(exp(x[i]))) without overflow, -Inf for no elements.
func LogSumExp(x []float32) float32 {
	m := Max(x)
	if math.IsInf(float64(m), 0) {
		for _, v := range x {
			if v != v {
				return v
			}
		}
		return m
	}
	return m + float32(math.Log(float64(sumExpOf(x, m))))
}

func sumExpOf(x []float32, shift float32) float32 {
	if model != nil {
		return model.SumExp(x, shift)
	}
	return sumExp(x, shift)
}

// SoftmaxScale does x[i] = s*exp(x[i]-lse): with lse from LogSumExp, the softmax
// times s, which is the gradient of a cross-entropy but for the label's own term.
func SoftmaxScale(x []float32, lse, s float32) {
	if model != nil {
		model.SoftmaxScale(x, lse, s)
		return
	}
	softmaxScale(x, lse, s)
}

// SwiGLU does dst[i] = silu(gate[i])*up[i], silu(g) = g/(1+exp(-g)). dst may be
// gate or up.
func SwiGLU(dst, gate, up []float32) {
	if model != nil {
		model.SwiGLU(dst, gate[:len(dst)], up[:len(dst)])
		return
	}
	swiGLU(dst, gate[:len(dst)], up[:len(dst)])
}

// SwiGLUBackward adds the gradients of SwiGLU to dGate and dUp:
// with s = 1/(1+exp(-gate)), dUp += dOut*gate*s and
// dGate += dOut*up*s*(1+gate*(1-s)). dGate and dUp must not be inputs.
func SwiGLUBackward(dGate, dUp, dOut, gate, up []float32) {
	n := len(dOut)
	if model != nil {
		model.SwiGLUBackward(dGate[:n], dUp[:n], dOut[:n], gate[:n], up[:n])
		return
	}
	swiGLUBackward(dGate[:n], dUp[:n], dOut, gate[:n], up[:n])
}

// AdamWStep is one step of AdamW (Loshchilov and Hutter 2019) in the formula and
// order of operations of torch.optim.AdamW. The constants are float64 as in
// PyTorch, which derives 1-beta in double precision.
type AdamWStep struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Bias1, Bias2                       float64 // 1-beta1^step, 1-beta2^step
}

// Apply updates the parameters p and the moments m and v from the gradient g:
//
//	p *= 1 - lr*wd
//	m += (1-beta1) * (g - m)
//	v  = v*beta2 + (1-beta2)*g*g
//	p -= lr/bias1 * m / (sqrt(v)/sqrt(bias2) + eps)
func (s AdamWStep) Apply(p, g, m, v []float32) {
	c := [7]float32{
		float32(1 - s.LR*s.WeightDecay),
		float32(1 - s.Beta1),
		float32(s.Beta2),
		float32(1 - s.Beta2),
		float32(math.Sqrt(s.Bias2)),
		float32(s.Eps),
		float32(-s.LR / s.Bias1),
	}
	if model != nil {
		model.AdamW(p, g[:len(p)], m[:len(p)], v[:len(p)], &c)
		return
	}
	adamW(p, g[:len(p)], m[:len(p)], v[:len(p)], &c)
}

// AdamW is AdamWStep with float32 constants. Each is taken as the shortest
// decimal that it stands for (0.9, not 0.89999998), so that 1-beta is right.
func AdamW(p, g, m, v []float32, lr, beta1, beta2, eps, wd, bias1, bias2 float32) {
	AdamWStep{
		LR: decimal(lr), Beta1: decimal(beta1), Beta2: decimal(beta2), Eps: decimal(eps),
		WeightDecay: decimal(wd), Bias1: float64(bias1), Bias2: float64(bias2),
	}.Apply(p, g, m, v)
}

func decimal(f float32) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return float64(f)
	}
	return v
}

// F16ToF32 widens one binary16 number.
func F16ToF32(h uint16) float32 { return generic.F16ToF32(h) }

// F32ToF16 rounds to binary16, nearest even; a NaN becomes sign|0x7e00.
func F32ToF16(f float32) uint16 { return generic.F32ToF16(f) }

// BF16ToF32 widens one bfloat16 number.
func BF16ToF32(h uint16) float32 { return generic.BF16ToF32(h) }

// F32ToBF16 rounds to bfloat16, nearest even; a NaN stays a (quiet) NaN.
func F32ToBF16(f float32) uint16 { return generic.F32ToBF16(f) }
