package waveft

import (
	"math"
	"math/cmplx"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/peft/tuner"
)

// families are the names that PEFT's configuration takes, by the number of the last
// one; the first is 1 but for symlets. Its table of filters ends earlier.
var families = map[string]int{"db": 38, "sym": 20, "coif": 17}

// symlets says, by N, which roots of a Daubechies filter lie outside of the unit circle
// in the symlet: bit i is the i-th root, or pair of conjugates, by absolute value. The
// choices are those of PyWavelets' tables, which PEFT has.
var symlets = []uint{2: 0, 3: 0, 4: 0b10, 5: 0b1, 6: 0b101, 7: 0b1, 8: 0b1010, 9: 0b110, 10: 0b10101}

// coiflets are the filters of Daubechies 1993 (Orthonormal bases of compactly supported
// wavelets II, SIAM J. Math. Anal. 24, table of coiflets), normed to the sum 1.
var coiflets = [][]float64{
	1: {-0.05142972847076845, 0.23892972847076846, 0.6028594569415369, 0.2721405430584631, -0.05142972847076845, -0.011070271529231544},
	2: {0.011587596738716868, -0.029320137983468563, -0.04763959031100813, 0.2730210465347666, 0.5746823938568638, 0.2948671936956192,
		-0.05408560709171143, -0.042026480460771606, 0.016744410163279506, 0.003967883612962012, -0.0012892033561406595, -0.0005095053991076441},
	3: {-0.0026824186709220686, 0.005503126707831385, 0.016583560479170346, -0.046507764478726975, -0.043220763560211914, 0.28650333527364746,
		0.56128525687033, 0.30298357177282415, -0.050770140754888865, -0.05819625076158553, 0.024434094321166958, 0.011229240962037866,
		-0.006369601011048823, -0.0018204589155662422, 0.0007902051009575939, 0.000329665173793183, -5.019277455327665e-05, -2.4465734255308132e-05},
}

// split takes a name apart, and fails for what PEFT's configuration refuses.
func split(name string) (family string, n int, err error) {
	family = strings.TrimRight(name, "0123456789")
	n, err = strconv.Atoi(name[len(family):])
	if last := families[family]; err != nil || n < 1 || n > last || family+strconv.Itoa(n) != name || name == "sym1" {
		return "", 0, tuner.Invalid("wavelet_family is %.40q, expected db1 (Haar) to db38, sym2 to sym20 or coif1 to coif17", name)
	}
	return family, n, nil
}

// lowpass returns the low-pass filter of the reconstruction of a wavelet.
func lowpass(name string) ([]float64, error) {
	family, n, err := split(name)
	if err != nil {
		return nil, err
	}
	switch {
	case family == "db" && n <= 10:
		return daubechies(n, 0), nil
	case family == "sym" && n < len(symlets):
		return daubechies(n, symlets[n]), nil
	case family == "coif" && n < len(coiflets):
		f := slices.Clone(coiflets[n])
		for i := range f {
			f[i] *= math.Sqrt2
		}
		return f, nil
	case family == "coif" && n <= 5:
		return nil, tuner.Invalid("wavelet_family is %s, and the filter that PEFT has under this name is none of an orthogonal wavelet; use coif3 or a db or sym wavelet", name)
	}
	return nil, tuner.Invalid("wavelet_family is %s, which has no filter in PEFT either: use db1 to db10, sym2 to sym10 or coif1 to coif3, or use_idwt=false", name)
}

// daubechies returns the filter of 2n taps with n zeros at -1 whose further roots are
// those of the spectral factor: inside of the unit circle, outside where a bit is set.
func daubechies(n int, outside uint) []float64 {
	f := []complex128{1}
	for range n {
		f = times(f, -1)
	}
	for i, z := range spectral(n) {
		if outside>>i&1 == 1 {
			z = 1 / z
		}
		f = times(f, z)
		if imag(z) != 0 {
			f = times(f, cmplx.Conj(z))
		}
	}
	var sum float64
	for _, v := range f {
		sum += real(v)
	}
	out := make([]float64, len(f))
	for i, v := range f {
		out[i] = real(v) * math.Sqrt2 / sum
	}
	return out
}

// times multiplies a polynomial in 1/z, constant term first, by 1 - root/z.
func times(f []complex128, root complex128) []complex128 {
	out := append(slices.Clone(f), 0)
	for i, v := range f {
		out[i+1] -= root * v
	}
	return out
}

// spectral returns the roots within the unit circle of Daubechies' polynomial of degree
// n-1, one of each pair of conjugates, by absolute value. The polynomial is
// P(y) = Σ C(n-1+k, k) y^k with y = (2-z-1/z)/4.
func spectral(n int) []complex128 {
	p := make([]complex128, n)
	p[0] = 1
	for k := 1; k < n; k++ {
		p[k] = p[k-1] * complex(float64(n-1+k)/float64(k), 0)
	}
	var out []complex128
	for _, y := range roots(p) {
		if imag(y) < -1e-9 {
			continue
		}
		if imag(y) < 1e-9 {
			y = complex(real(y), 0)
		}
		b := 1 - 2*y
		z := b + cmplx.Sqrt(b*b-1)
		if cmplx.Abs(z) > 1 {
			z = 1 / z
		}
		out = append(out, z)
	}
	slices.SortFunc(out, func(a, b complex128) int { return int(math.Copysign(1, cmplx.Abs(a)-cmplx.Abs(b))) })
	return out
}

// roots finds the simple roots of a polynomial, constant term first, all at once
// (Durand and Kerner).
func roots(p []complex128) []complex128 {
	n := len(p) - 1
	r := make([]complex128, n)
	for i := range r {
		r[i] = cmplx.Pow(0.4+0.9i, complex(float64(i), 0))
	}
	for range 500 {
		for i := range r {
			v, d := complex(1, 0), complex(1, 0)
			for k := n - 1; k >= 0; k-- {
				v = v*r[i] + p[k]/p[n]
			}
			for j := range r {
				if j != i {
					d *= r[i] - r[j]
				}
			}
			r[i] -= v / d
		}
	}
	return r
}
