package nn

import "github.com/peftkit/peftkit/kernels"

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
