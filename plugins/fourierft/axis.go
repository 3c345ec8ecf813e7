package fourierft

import (
	"math"
	"slices"

	"github.com/peftkit/peftkit/kernels"
)

// axis is one side, of n elements, of the matrices that are transformed.
//
// A cosine of frequency u is even in u and in the place p, a sine odd in both, and
// both repeat after n: frequencies and places up to n/2 say all. For an even n,
// going from p to n/2-p turns the sign of one of them by the parity of u, so that
// with even and odd frequencies apart places up to n/4 say all. Of a
// transform's products an eighth is left.
type axis struct {
	n      int
	points int // places 0 to points-1 are computed
	halves int // 2 if even and odd frequencies are apart, else 1
	// The frequencies that occur, the even ones first; odd is where the odd ones begin.
	freqs []int
	odd   int
	at    []int // where a frequency up to n/2 stands in freqs

	cos, sin kernels.Mat // [points, len(freqs)]: of 2πpu/n
}

// newAxis returns the axis of n elements for frequencies below n.
func newAxis(n int, freqs []int) *axis {
	a := &axis{n: n, points: n/2 + 1, halves: 1, at: make([]int, n/2+1)}
	if n%2 == 0 {
		a.points, a.halves = n/4+1, 2
	}
	occurs := make([]bool, n/2+1)
	for _, u := range freqs {
		occurs[a.fold(u)] = true
	}
	for half := range a.halves {
		if half == 1 {
			a.odd = len(a.freqs)
		}
		for u := half; u <= n/2; u += a.halves {
			if occurs[u] {
				a.at[u] = len(a.freqs)
				a.freqs = append(a.freqs, u)
			}
		}
	}
	if a.halves == 1 {
		a.odd = len(a.freqs)
	}
	waves := make([][2]float32, n)
	for i := range waves {
		s, c := math.Sincos(2 * math.Pi * float64(i) / float64(n))
		waves[i] = [2]float32{float32(c), float32(s)}
	}
	a.cos, a.sin = kernels.NewMat(a.points, len(a.freqs)), kernels.NewMat(a.points, len(a.freqs))
	for p := range a.points {
		for i, u := range a.freqs {
			w := waves[p*u%n]
			a.cos.Row(p)[i], a.sin.Row(p)[i] = w[0], w[1]
		}
	}
	return a
}

// fold returns the frequency up to n/2 that has the same cosine.
func (a *axis) fold(u int) int { return min(u, a.n-u) }

// place returns where the waves of frequency u < n stand, and the sign of its sine.
func (a *axis) place(u int) (at int, sign float32) {
	if 2*u > a.n {
		return a.at[a.n-u], -1
	}
	return a.at[u], 1
}

// half returns the range of even (0) or odd (1) frequencies.
func (a *axis) half(h int) (from, to int) {
	if h == 0 {
		return 0, a.odd
	}
	return a.odd, len(a.freqs)
}

// waves returns the cosines (0) or sines (1) of one half of the frequencies.
func (a *axis) waves(kind, h int) kernels.Mat {
	m := a.cos
	if kind == 1 {
		m = a.sin
	}
	from, to := a.half(h)
	return part(m, 0, m.Rows, from, to)
}

// images returns the places that point p stands for, -1 for those that another
// point or image stands for: p and n-p, and the same of n/2-p.
func (a *axis) images(p int) (at [2][2]int) {
	at = [2][2]int{{p, a.n - p}, {-1, -1}}
	if a.halves == 2 {
		at[1] = [2]int{a.n/2 - p, a.n/2 + p}
	}
	for h := range at {
		for m, v := range at[h] {
			if v == a.n {
				v = 0
			}
			at[h][m] = v
			if h+m > 0 && v >= 0 && (slices.Contains(at[0][:], v) && h == 1 || m == 1 && at[h][0] == v) {
				at[h][m] = -1
			}
		}
	}
	return at
}

// part views rows r0 to r1 and columns c0 to c1.
func part(m kernels.Mat, r0, r1, c0, c1 int) kernels.Mat {
	return kernels.Mat{Data: m.Data[min(r0*m.Stride+c0, len(m.Data)):], Rows: r1 - r0, Cols: c1 - c0, Stride: m.Stride}
}
