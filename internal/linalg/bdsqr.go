package linalg

import (
	"math"

	impl "gonum.org/v1/gonum/lapack/gonum"
)

// qr is the QR iteration of a small bidiagonal matrix in float32, as LAPACK's
// bdsqr goes: how often it turns decides the signs of the vectors.
type qr struct {
	d, e  []float32
	left  [][]float32 // columns
	right [][]float32 // rows
}

type rotation struct{ c, s float32 }

func rotate32(f, g float32) (rotation, float32) {
	c, s, r := givens(float64(f), float64(g))
	return rotation{float32(c), float32(s)}, float32(r)
}

// turn rotates the vectors i and i+1.
func (r rotation) turn(v [][]float32, i int) {
	a, b := v[i], v[i+1]
	for k := range a {
		t := b[k]
		b[k] = r.c*t - r.s*a[k]
		a[k] = r.s*t + r.c*a[k]
	}
}

func unit(n int) [][]float32 {
	out := make([][]float32, n)
	for i := range out {
		out[i] = make([]float32, n)
		out[i][i] = 1
	}
	return out
}

// leaf is the sign of a triplet of a small matrix.
func (b band) leaf(t triplet) float64 {
	n := len(b.d)
	q := &qr{make([]float32, n), make([]float32, n), unit(n), unit(len(t.y))}
	for i := range n {
		q.d[i] = float32(b.d[i])
		if i < len(b.e) {
			q.e[i] = float32(b.e[i])
		}
	}
	if len(b.e) == n { // one more column: to a lower bidiagonal matrix, and back
		for i := range n {
			var g rotation
			g, q.d[i] = rotate32(q.d[i], q.e[i])
			q.e[i] = 0
			if i < n-1 {
				q.e[i], q.d[i+1] = g.s*q.d[i+1], g.c*q.d[i+1]
			}
			g.turn(q.right, i)
		}
		for i := range n - 1 {
			var g rotation
			g, q.d[i] = rotate32(q.d[i], q.e[i])
			q.e[i], q.d[i+1] = g.s*q.d[i+1], g.c*q.d[i+1]
			g.turn(q.left, i)
		}
	}
	q.iterate()
	best := 0.0
	for k := range n {
		dot := 0.0
		for i, v := range t.x {
			dot += v * float64(q.left[k][i])
		}
		if math.Abs(dot) > math.Abs(best) {
			best = dot
		}
	}
	return best
}

// iterate makes the matrix diagonal. Left vectors get the signs; a negative value
// turns its right vector.
func (q *qr) iterate() {
	const tol = 10 * single
	n := len(q.d)
	abs := func(x float32) float32 { return float32(math.Abs(float64(x))) }
	low := abs(q.d[0])
	for i, mu := 1, low; i < n && low != 0; i++ {
		mu = abs(q.d[i]) * (mu / (mu + abs(q.e[i-1])))
		low = min(low, mu)
	}
	low /= float32(math.Sqrt(float64(n)))
	thresh := max(float32(tol)*low, float32(6*n*n)*0x1p-126)
	var l impl.Implementation
	oldLo, oldHi, down := -1, -1, true
	hi := n - 1
next:
	for rounds := 0; hi > 0 && rounds < 6*n*n+10*n; rounds++ {
		lo, top := 0, abs(q.d[hi])
		for i := hi - 1; i >= 0; i-- {
			if abs(q.e[i]) <= thresh {
				q.e[i] = 0
				lo = i + 1
				break
			}
			top = max(top, abs(q.d[i]), abs(q.e[i]))
		}
		if lo == hi {
			hi--
			continue
		}
		if lo == hi-1 {
			small, large, sr, cr, sl, cl := l.Dlasv2(float64(q.d[lo]), float64(q.e[lo]), float64(q.d[hi]))
			q.d[lo], q.e[lo], q.d[hi] = float32(large), 0, float32(small)
			rotation{float32(cr), float32(sr)}.turn(q.right, lo)
			rotation{float32(cl), float32(sl)}.turn(q.left, lo)
			hi -= 2
			continue
		}
		if lo > oldHi || hi < oldLo {
			down = abs(q.d[lo]) >= abs(q.d[hi])
		}
		var least float32
		if down {
			if abs(q.e[hi-1]) <= tol*abs(q.d[hi]) {
				q.e[hi-1] = 0
				continue
			}
			mu := abs(q.d[lo])
			least = mu
			for i := lo; i < hi; i++ {
				if abs(q.e[i]) <= tol*mu {
					q.e[i] = 0
					continue next
				}
				mu = abs(q.d[i+1]) * (mu / (mu + abs(q.e[i])))
				least = min(least, mu)
			}
		} else {
			if abs(q.e[lo]) <= tol*abs(q.d[lo]) {
				q.e[lo] = 0
				continue
			}
			mu := abs(q.d[hi])
			least = mu
			for i := hi - 1; i >= lo; i-- {
				if abs(q.e[i]) <= tol*mu {
					q.e[i] = 0
					continue next
				}
				mu = abs(q.d[i]) * (mu / (mu + abs(q.e[i])))
				least = min(least, mu)
			}
		}
		oldLo, oldHi = lo, hi
		var shift float32
		if !(float32(n)*tol*(least/top) <= max(float32(single), 0.01*tol)) {
			at, end := hi-1, q.d[lo]
			if !down {
				at, end = lo, q.d[hi]
			}
			s, _ := l.Dlas2(float64(q.d[at]), float64(q.e[at]), float64(q.d[at+1]))
			shift = float32(s)
			if end = abs(end); end > 0 && (shift/end)*(shift/end) < single {
				shift = 0
			}
		}
		if down {
			q.sweepDown(lo, hi, shift)
			if abs(q.e[hi-1]) <= thresh {
				q.e[hi-1] = 0
			}
		} else {
			q.sweepUp(lo, hi, shift)
			if abs(q.e[lo]) <= thresh {
				q.e[lo] = 0
			}
		}
	}
}

func shifted(d, shift float32) float32 {
	a := float32(math.Abs(float64(d)))
	return (a - shift) * (float32(math.Copysign(1, float64(d))) + shift/d)
}

func (q *qr) sweepDown(lo, hi int, shift float32) {
	d, e := q.d, q.e
	r, l := make([]rotation, hi-lo), make([]rotation, hi-lo)
	var v float32
	if shift == 0 {
		cs, old := float32(1), rotation{1, 0}
		for i := lo; i < hi; i++ {
			var g rotation
			g, v = rotate32(d[i]*cs, e[i])
			if i > lo {
				e[i-1] = old.s * v
			}
			cs = g.c
			old, d[i] = rotate32(old.c*v, d[i+1]*g.s)
			r[i-lo], l[i-lo] = g, old
		}
		h := d[hi] * cs
		d[hi], e[hi-1] = h*old.c, h*old.s
	} else {
		f, g := shifted(d[lo], shift), e[lo]
		for i := lo; i < hi; i++ {
			var a, b rotation
			a, v = rotate32(f, g)
			if i > lo {
				e[i-1] = v
			}
			f = a.c*d[i] + a.s*e[i]
			e[i] = a.c*e[i] - a.s*d[i]
			g = a.s * d[i+1]
			d[i+1] *= a.c
			b, d[i] = rotate32(f, g)
			f = b.c*e[i] + b.s*d[i+1]
			d[i+1] = b.c*d[i+1] - b.s*e[i]
			if i < hi-1 {
				g = b.s * e[i+1]
				e[i+1] *= b.c
			}
			r[i-lo], l[i-lo] = a, b
		}
		e[hi-1] = f
	}
	for i := range r {
		r[i].turn(q.right, lo+i)
		l[i].turn(q.left, lo+i)
	}
}

func (q *qr) sweepUp(lo, hi int, shift float32) {
	d, e := q.d, q.e
	r, l := make([]rotation, hi-lo), make([]rotation, hi-lo)
	var v float32
	if shift == 0 {
		cs, old := float32(1), rotation{1, 0}
		for i := hi; i > lo; i-- {
			var g rotation
			g, v = rotate32(d[i]*cs, e[i-1])
			if i < hi {
				e[i] = old.s * v
			}
			cs = g.c
			old, d[i] = rotate32(old.c*v, d[i-1]*g.s)
			r[i-1-lo], l[i-1-lo] = rotation{old.c, -old.s}, rotation{g.c, -g.s}
		}
		h := d[lo] * cs
		d[lo], e[lo] = h*old.c, h*old.s
	} else {
		f, g := shifted(d[hi], shift), e[hi-1]
		for i := hi; i > lo; i-- {
			var a, b rotation
			a, v = rotate32(f, g)
			if i < hi {
				e[i] = v
			}
			f = a.c*d[i] + a.s*e[i-1]
			e[i-1] = a.c*e[i-1] - a.s*d[i]
			g = a.s * d[i-1]
			d[i-1] *= a.c
			b, d[i] = rotate32(f, g)
			f = b.c*e[i-1] + b.s*d[i-1]
			d[i-1] = b.c*d[i-1] - b.s*e[i-1]
			if i > lo+1 {
				g = b.s * e[i-2]
				e[i-2] *= b.c
			}
			r[i-1-lo], l[i-1-lo] = rotation{b.c, -b.s}, rotation{a.c, -a.s}
		}
		e[lo] = f
	}
	for i := len(r) - 1; i >= 0; i-- {
		r[i].turn(q.right, lo+i)
		l[i].turn(q.left, lo+i)
	}
}
