package lanes

import "math"

// span is the number of elements of one call into assembly (see package kernels).
const span = 1 << 14

// each cuts n elements into the calls that package kernels makes. f gets a range, and
// whether it is padded to a whole vector.
func (t *Tier) each(n int, f func(lo, hi int, pad bool)) {
	for lo := 0; lo < n; {
		m := min(n-lo, span)
		if t.neon && n-lo >= 4 {
			m &^= 3
		}
		f(lo, lo+m, t.neon && m < 4)
		lo += m
	}
}

// padded is x as a whole vector, filled up.
func padded(x []float32, fill float32) []float32 {
	v := []float32{fill, fill, fill, fill}
	copy(v, x)
	return v
}

// Dot returns the sum of a[i]*b[i].
func (t *Tier) Dot(a, b []float32) (sum float32) {
	t.each(len(a), func(lo, hi int, pad bool) {
		x, y := a[lo:hi], b[lo:hi]
		if pad {
			x, y = padded(x, 0), padded(y, 0)
		}
		sum += t.dot(x, y)
	})
	return sum
}

// Max returns the largest element, -Inf for none.
func (t *Tier) Max(x []float32) float32 {
	most := kneginf
	t.each(len(x), func(lo, hi int, pad bool) {
		v := x[lo:hi]
		if pad {
			v = padded(v, kneginf)
		}
		most = max(most, t.maxOf(v))
	})
	return most
}

// ExpSum does x[i] = exp(x[i]-shift) and returns the sum of the results.
func (t *Tier) ExpSum(x []float32, shift float32) (sum float32) {
	t.each(len(x), func(lo, hi int, pad bool) {
		v := x[lo:hi]
		if pad {
			v = padded(v, float32(math.Inf(-1)))
		}
		sum += t.expSum(v, shift)
		copy(x[lo:hi], v)
	})
	return sum
}

// SumExp returns the sum of exp(x[i]-shift).
func (t *Tier) SumExp(x []float32, shift float32) (sum float32) {
	t.each(len(x), func(lo, hi int, pad bool) {
		v := x[lo:hi]
		if pad {
			v = padded(v, float32(math.Inf(-1)))
		}
		sum += t.sumExp(v, shift)
	})
	return sum
}
