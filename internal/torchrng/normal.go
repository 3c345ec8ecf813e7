package torchrng

import "math"

// Normal fills dst as tensor.normal_(mean, std) of a contiguous float32 tensor;
// mean 0 and std 1 is torch.randn. PyTorch goes two ways: fewer than 16 elements
// are drawn in pairs in float64, more in blocks of 16 with float32 arithmetic, and
// the last block overlaps the one before.
func (g *Generator) Normal(dst []float32, mean, std float64) {
	if len(dst) < 16 {
		for i := range dst {
			dst[i] = float32(math.FMA(g.pair(), std, mean))
		}
		return
	}
	for i := range dst {
		dst[i] = g.Float32()
	}
	m, s := float32(mean), float32(std)
	for i := 0; i+16 <= len(dst); i += 16 {
		boxMuller(dst[i:i+16], m, s)
	}
	if len(dst)%16 != 0 {
		last := dst[len(dst)-16:]
		for i := range last {
			last[i] = g.Float32()
		}
		boxMuller(last, m, s)
	}
}

// pair is one number of a Box-Muller pair; the other is kept for the next call.
func (g *Generator) pair() float64 {
	if g.hasSpare {
		g.hasSpare = false
		return g.spare
	}
	u1, u2 := g.Float64(), g.Float64()
	r := math.Sqrt(-2 * math.Log1p(-u2))
	sin, cos := math.Sincos(2 * math.Pi * u1)
	g.spare, g.hasSpare = r*sin, true
	return r * cos
}

// boxMuller turns 16 uniform numbers into normal ones: element j is the radius of
// the pair, element j+8 its angle.
func boxMuller(x []float32, mean, std float32) {
	for j := range 8 {
		radius := float32(math.Sqrt(float64(-2 * log32(1-x[j]))))
		sin, cos := sincos32(float32(2*math.Pi) * x[j+8])
		x[j] = fma32(radius*cos, std, mean)
		x[j+8] = fma32(radius*sin, std, mean)
	}
}

// The float32 functions below are those of Cephes (S. L. Moshier, single
// precision) in the order of operations of PyTorch's vector code: other roundings
// would be other bits.

var logCoeffs = [9]float32{
	7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
	-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
}

// log32 is the natural logarithm of x in (0, 1].
func log32(x float32) float32 {
	frac, exp := math.Frexp(float64(x)) // frac in [0.5, 1)
	f, e := float32(frac), float32(exp)
	if f < float32(math.Sqrt2/2) {
		e--
		f = f - 1 + f
	} else {
		f--
	}
	z := f * f
	y := logCoeffs[0]
	for _, c := range logCoeffs[1:] {
		y = fma32(y, f, c)
	}
	y = y * f
	y = fma32(y, z, e*-2.12194440e-4)
	y = fma32(-z, 0.5, y)
	return fma32(e, 0.693359375, f+y)
}

// sincos32 returns the sine and cosine of x in [0, 2π].
func sincos32(x float32) (sin, cos float32) {
	j := (int32(x*float32(4/math.Pi)) + 1) &^ 1
	y := float32(j)
	x = fma32(y, -0.78515625, x)
	x = fma32(y, -2.4187564849853515625e-4, x)
	x = fma32(y, -3.77489497744594108e-8, x)
	z := x * x
	c := fma32(2.443315711809948e-5, z, -1.388731625493765e-3)
	c = fma32(c, z, 4.166664568298827e-2)
	c = c * z
	c = fma32(c, z, -(z*0.5)) + 1
	s := fma32(-1.9515295891e-4, z, 8.3321608736e-3)
	s = fma32(s, z, -1.6666654611e-1)
	s = s * z
	s = fma32(s, x, x)
	if j&2 != 0 {
		s, c = c, s
	}
	if j&4 != 0 {
		s = -s
	}
	if (j-2)&4 == 0 {
		c = -c
	}
	return s, c
}
