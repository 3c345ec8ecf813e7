package nn

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// Activations on slices of at most sliceLen elements. dst is not x.

func reluTo(dst, x []float32) {
	for i, v := range x {
		dst[i] = max(v, 0)
	}
}

func reluSlope(dst, x []float32) {
	for i, v := range x {
		dst[i] = 0
		if v > 0 {
			dst[i] = 1
		}
	}
}

func sigmoidSlope(dst, x []float32) {
	kernels.Sigmoid(dst, x)
	for i, s := range dst {
		dst[i] = s * (1 - s)
	}
}

// tanhTo computes 2*sigmoid(2x)-1, and near 0, where that cancels, the Taylor
// series.
func tanhTo(dst, x []float32) {
	copy(dst, x)
	kernels.Scale(dst, 2)
	kernels.Sigmoid(dst, dst)
	for i, s := range dst {
		v := x[i]
		if v > -0.25 && v < 0.25 {
			z := v * v
			dst[i] = v + v*z*(-1./3+z*(2./15+z*(-17./315+z*62./2835)))
		} else {
			dst[i] = 2*s - 1
		}
	}
}

func tanhSlope(dst, x []float32) {
	tanhTo(dst, x)
	for i, t := range dst {
		dst[i] = 1 - t*t
	}
}

func siluTo(dst, x []float32) {
	kernels.Sigmoid(dst, x)
	kernels.Mul(dst, dst, x)
}

func siluSlope(dst, x []float32) {
	kernels.Sigmoid(dst, x)
	for i, s := range dst {
		dst[i] = s * (1 + x[i]*(1-s))
	}
}

func geluTanhTo(dst, x []float32) {
	geluGate(dst, x)
	kernels.Mul(dst, dst, x)
}

func geluTanhSlope(dst, x []float32) {
	geluGate(dst, x)
	for i, s := range dst {
		dst[i] = geluSlope(x[i], s)
	}
}

// geluExact is x*Phi(x), Phi by formula 7.1.26 of Abramowitz and Stegun for the
// error function (absolute error below 1.5e-7).
func geluExact(dst, x []float32) {
	normalDensity(dst, x)
	for i, e := range dst {
		dst[i] = x[i] * normalBelow(x[i], e)
	}
}

func geluExactSlope(dst, x []float32) {
	normalDensity(dst, x)
	for i, e := range dst {
		dst[i] = normalBelow(x[i], e) + x[i]*e*float32(0.3989422804014327) // 1/sqrt(2*pi)
	}
}

// normalDensity writes exp(-x²/2).
func normalDensity(dst, x []float32) {
	for i, v := range x {
		dst[i] = v * v * -0.5
	}
	kernels.Exp(dst, dst)
}

// normalBelow returns Phi(x) given e = exp(-x²/2).
func normalBelow(x, e float32) float32 {
	t := 1 / (1 + 0.3275911/math.Sqrt2*abs32(x))
	p := 0.5 * e * t * (0.254829592 + t*(-0.284496736+t*(1.421413741+t*(-1.453152027+t*1.061405429))))
	if x > 0 {
		return 1 - p
	}
	return p
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
