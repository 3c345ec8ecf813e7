package nn

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// Activation is an element-wise function and its derivative.
type Activation struct {
	// Name is transformers' name (ACT2FN).
	Name string
	// F is the function, D its derivative; both compute in float64 inside.
	F, D func(x float64) float64

	// Twins of F and D on at most sliceLen elements, many times as fast and right to
	// about 3e-7; nil for none.
	fs, ds func(dst, x []float32)
}

// The activations of transformers that PEFT methods and model families use.
var (
	ReLU = Activation{Name: "relu", fs: reluTo, ds: reluSlope,
		F: func(x float64) float64 { return max(x, 0) }, D: func(x float64) float64 { return step01(x) }}
	Sigmoid = Activation{Name: "sigmoid", fs: kernels.Sigmoid, ds: sigmoidSlope,
		F: sigmoid, D: func(x float64) float64 { s := sigmoid(x); return s * (1 - s) }}
	Tanh = Activation{Name: "tanh", fs: tanhTo, ds: tanhSlope,
		F: math.Tanh, D: func(x float64) float64 { t := math.Tanh(x); return 1 - t*t }}
	// SiLU is x*sigmoid(x), also called swish.
	SiLU = Activation{Name: "silu", fs: siluTo, ds: siluSlope,
		F: func(x float64) float64 { return x * sigmoid(x) },
		D: func(x float64) float64 { s := sigmoid(x); return s * (1 + x*(1-s)) }}
	// GELU is x*Phi(x) with the exact normal distribution (Hendrycks and Gimpel 2016).
	GELU = Activation{Name: "gelu", fs: kernels.GELU, ds: kernels.GELUSlope,
		F: func(x float64) float64 { return x * phi(x) },
		D: func(x float64) float64 { return phi(x) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi) }}
	// GELUTanh is GELU's tanh approximation: gelu_new of GPT-2, gelu_pytorch_tanh.
	GELUTanh = Activation{Name: "gelu_new", fs: kernels.GELUTanh, ds: kernels.GELUTanhSlope,
		F: func(x float64) float64 { return x / 2 * (1 + math.Tanh(geluInner(x))) },
		D: func(x float64) float64 {
			t := math.Tanh(geluInner(x))
			return (1+t)/2 + x/2*(1-t*t)*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x)
		}}
)

func step01(x float64) float64 {
	if x > 0 {
		return 1
	}
	return 0
}

func sigmoid(x float64) float64   { return 1 / (1 + math.Exp(-x)) }
func phi(x float64) float64       { return math.Erfc(-x/math.Sqrt2) / 2 }
func geluInner(x float64) float64 { return math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x) }

// ActivationByName finds an activation by any of transformers' names for it.
func ActivationByName(name string) (Activation, bool) {
	switch name {
	case "swish":
		name = "silu"
	case "gelu_pytorch_tanh", "gelu_fast":
		name = "gelu_new"
	case "gelu_python":
		name = "gelu"
	}
	for _, a := range []Activation{ReLU, Sigmoid, Tanh, SiLU, GELU, GELUTanh} {
		if a.Name == name {
			return a, true
		}
	}
	return Activation{}, false
}

// Apply returns f of every element of x. The output can be recomputed.
func Apply(t *Tape, x *Var, f Activation) *Var {
	fs, ds, size := f.fs, f.ds, grain
	if fs == nil || ds == nil {
		fs, ds, size = elements(f.F), elements(f.D), sliceLen
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	apply := func(dst kernels.Mat) {
		src := x.Mat().Data
		kernels.Parallel(len(src), size, func(lo, hi int) {
			for ; lo < hi; lo += sliceLen {
				end := min(lo+sliceLen, hi)
				fs(dst.Data[lo:end], src[lo:end])
			}
		})
	}
	apply(out.Mat())
	t.Recomputable(out, apply, x)
	t.record(out, func() {
		src, dy := x.Mat().Data, out.Grad
		m, acc := t.Grad(x)
		each(len(src), func(lo, hi int, tmp []float32) {
			ds(tmp, src[lo:hi])
			mulInto(m.Data[lo:hi], tmp, dy[lo:hi], acc)
		})
	}, x)
	return out
}
