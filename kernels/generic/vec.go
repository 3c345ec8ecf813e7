package generic

import "math"

// Dot returns the sum of a[i]*b[i], in eight interleaved partial sums.
func Dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s [8]float32
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := a[i:i+8:i+8], b[i:i+8:i+8]
		for j := range s {
			s[j] += x[j] * y[j]
		}
	}
	for ; i < len(a); i++ {
		s[i&7] += a[i] * b[i]
	}
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

// Axpy does y[i] += alpha*x[i].
func Axpy(alpha float32, x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += alpha * v
	}
}

// Add does dst[i] = a[i] + b[i].
func Add(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] + b[i]
	}
}

// Mul does dst[i] = a[i] * b[i].
func Mul(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = a[i] * b[i]
	}
}

// MulAdd does dst[i] += a[i] * b[i].
func MulAdd(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] += a[i] * b[i]
	}
}

// Scale does dst[i] *= s.
func Scale(dst []float32, s float32) {
	for i := range dst {
		dst[i] *= s
	}
}

// SumSquares returns the sum of x[i]*x[i].
func SumSquares(x []float32) float32 { return Dot(x, x) }

// Max returns the largest element, -Inf for none. A NaN may or may not be seen.
func Max(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// AdamW is one step of the optimiser; see kernels.AdamWStep for the formula.
// c holds, in order: 1-lr*wd, 1-beta1, beta2, 1-beta2, sqrt(bias2), eps, -lr/bias1.
func AdamW(p, g, m, v []float32, c *[7]float32) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i := range p {
		m[i] += float32(c[1] * (g[i] - m[i]))
		v[i] = float32(v[i]*c[2]) + float32(float32(c[3]*g[i])*g[i])
		denom := float32(math.Sqrt(float64(v[i])))/c[4] + c[5]
		p[i] = float32(p[i]*c[0]) + float32(c[6]*m[i])/denom
	}
}
