// Package bound derives the tolerances of tests from the arithmetic of what they
// compare: how many terms are summed, how large they are, and how each is rounded.
//
// A sum of n products x[i]*w[i], computed in floating point in any order and with or
// without fused multiply-adds, is the exact sum of products changed by relative errors
// of at most Gamma(n) each (Higham, Accuracy and Stability of Numerical Algorithms,
// 2nd edition, section 3.1), so that it is off by at most
//
//	Gamma(n) * sum |x[i]|*|w[i]|.
//
// That is reached only where all roundings go one way and all products have one sign.
// Roundings that do not depend on each other add up like a random walk, and Spread(n)
// stands in for Gamma(n) (Higham and Mary, A New Approach to Probabilistic Rounding Error
// Analysis, SIAM J. Sci. Comput. 41, 2019). Where the products have both signs, as those
// of random weights, the partial sums that are rounded are random walks themselves, and
// sqrt(sum (x[i]*w[i])²) stands in for the sum of magnitudes (the same authors, Sharper
// Probabilistic Backward Error Analysis with Random Data, SIAM J. Sci. Comput. 42, 2020).
// Neither form depends on the order of a sum, so neither depends on the CPU.
//
// Tests of one routine use Gamma. Tests of whole networks, thousands of roundings deep,
// use Spread: Gamma would let real faults pass.
package bound

import "math"

// Unit roundoffs: half the distance from 1 to the next number of a type.
const (
	U    = 0x1p-24 // float32
	F16  = 0x1p-11 // binary16
	BF16 = 0x1p-8  // bfloat16
	F64  = 0x1p-53 // float64
)

// Lambda is the factor of [Spread]. Roundings are at most U and about 0.4*U in the root
// mean square, so that it stands for 10 standard deviations where they are independent
// and leaves room where some are not.
const Lambda = 4

// Gamma is n*u/(1-n*u), the largest relative error of n float32 roundings after one another.
func Gamma(n int) float64 { return gamma(float64(n) * U) }

// Gamma64 is Gamma of float64.
func Gamma64(n int) float64 { return gamma(float64(n) * F64) }

func gamma(nu float64) float64 { return nu / (1 - nu) }

// Spread is Lambda*sqrt(n)*U, what stands in for Gamma(n) where roundings are independent.
func Spread(n int) float64 { return Lambda * math.Sqrt(float64(n)) * U }

// Sum is the largest error of a sum of n float32 products whose magnitudes add up to mag.
func Sum(n int, mag float64) float64 { return Gamma(n) * mag }

// Dot is Sum of the products of two slices.
func Dot(x, w []float32) float64 {
	return Sum(len(x), Magnitude(x, w))
}

// Magnitude is the sum of |x[i]|*|w[i]|, in float64.
func Magnitude(x, w []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += math.Abs(float64(v) * float64(w[i]))
	}
	return sum
}

// Norm is the square root of the sum of (x[i]*w[i])², in float64.
func Norm(x, w []float32) float64 {
	sum := 0.0
	for i, v := range x {
		p := float64(v) * float64(w[i])
		sum += p * p
	}
	return math.Sqrt(sum)
}

// Output is the bound of package netbound as one number, for logits, features and losses
// of the small networks of the tests: up to 1000 terms, sums of a size up to 3, and
// attention that passes errors on 4 times: 4 * sqrt(2) * Spread(1000) * 3 = 1.3e-4. A loss
// is off by no more than its logits.
var Output = 4 * math.Sqrt2 * Spread(1000) * 3
