package linalg

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/lapack"
	impl "gonum.org/v1/gonum/lapack/gonum"
	"gonum.org/v1/gonum/mat"
)

// TorchSVD is [TruncatedSVD] with the signs that torch.linalg.svd gives the vectors
// of a float32 matrix on a CPU, as PyTorch's builds for x86-64 compute it (gesdd of
// Intel's library; that of reference LAPACK takes another way for matrices that are
// more than 1.5 and less than 1.83 times as tall as wide).
//
// Signs come out of an algorithm, not out of the matrix: this follows the one of
// gesdd as far as it decides them. The matrix is made bidiagonal; a bidiagonal matrix
// is cut at its middle row, where vectors of the two halves are joined such that the
// left one is negative. A vector that does not reach that row is one of a half,
// and keeps its sign; what is left over is small and iterated in float32. The last
// vectors of matrices whose smaller side is at most 25 depend on the rounding of that,
// and may come out with the other sign; so may vectors of values that all but repeat.
func TorchSVD(a []float32, rows, cols, rank int) (u, s, vt []float32, err error) {
	if u, s, vt, err = TruncatedSVD(a, rows, cols, rank); err != nil {
		return nil, nil, nil, err
	}
	x, y := mat.DenseCopyOf(dense(u, rows, rank).T()), dense(vt, rank, cols) // [rank, .]
	b, xs, ys := bidiagonal(dense(a, rows, cols), x, y)
	for k := range rank {
		if b.sign(triplet{xs[k], ys[k]}) < 0 {
			for i := range rows {
				u[i*rank+k] = -u[i*rank+k]
			}
			for j := range cols {
				vt[k*cols+j] = -vt[k*cols+j]
			}
		}
	}
	return u, s, vt, nil
}

// triplet is a left and a right singular vector of a bidiagonal matrix.
type triplet struct{ x, y []float64 }

// band is an upper bidiagonal matrix of len(d) rows; with as many e it has one more
// column.
type band struct{ d, e []float64 }

// bidiagonal turns a into an upper bidiagonal matrix, and the rows of x and y, left
// and right singular vectors of a, into those of that matrix.
func bidiagonal(a, x, y *mat.Dense) (b band, xs, ys [][]float64) {
	rows, cols := a.Dims()
	n := min(rows, cols)
	rank, _ := x.Dims()
	if 2*rows >= 3*cols && rows > cols {
		q, r := thinQR(a)
		var turned mat.Dense
		turned.Mul(x, q)
		a, x, rows = r, &turned, cols
	}
	var l impl.Implementation
	g := a.RawMatrix()
	b = band{make([]float64, n), make([]float64, n-1)}
	tauQ, tauP, work := make([]float64, n), make([]float64, n), make([]float64, 1)
	l.Dgebrd(rows, cols, g.Data, g.Stride, b.d, b.e, tauQ, tauP, work, -1)
	work = make([]float64, int(work[0]))
	l.Dgebrd(rows, cols, g.Data, g.Stride, b.d, b.e, tauQ, tauP, work, len(work))
	apply := func(vect lapack.ApplyOrtho, m *mat.Dense, k int, tau []float64) { // m times Q, or P
		c := m.RawMatrix()
		w := make([]float64, 1)
		l.Dormbr(vect, blas.Right, blas.NoTrans, c.Rows, c.Cols, k, g.Data, g.Stride, tau, c.Data, c.Stride, w, -1)
		w = make([]float64, int(w[0]))
		l.Dormbr(vect, blas.Right, blas.NoTrans, c.Rows, c.Cols, k, g.Data, g.Stride, tau, c.Data, c.Stride, w, len(w))
	}
	apply(lapack.ApplyQ, x, cols, tauQ)
	apply(lapack.ApplyP, y, rows, tauP)
	for k := range rank {
		xs, ys = append(xs, x.RawRowView(k)[:n]), append(ys, y.RawRowView(k)[:n])
	}
	if rows < cols { // lower bidiagonal
		for i := range n - 1 {
			c, s, r := givens(b.d[i], b.e[i])
			b.d[i], b.e[i], b.d[i+1] = r, s*b.d[i+1], c*b.d[i+1]
			for _, v := range xs {
				v[i], v[i+1] = c*v[i]+s*v[i+1], c*v[i+1]-s*v[i]
			}
		}
	}
	return b, xs, ys
}

// givens is LAPACK's rotation (c f + s g = r, c g - s f = 0) with the sign of f on r.
func givens(f, g float64) (c, s, r float64) {
	switch {
	case g == 0:
		return 1, 0, f
	case f == 0:
		return 0, math.Copysign(1, g), math.Abs(g)
	}
	r = math.Copysign(math.Hypot(f, g), f)
	return f / r, g / r, r
}

const (
	leafRows = 25         // smaller matrices are not cut
	single   = 0x1p-24    // LAPACK's epsilon of float32
	deflates = 8 * single // times the largest value: what counts as no coupling
)

// sign is -1 if gesdd would give the triplet of b the other sign.
func (b band) sign(t triplet) float64 {
	n, top := len(b.d), 0.0
	for i, v := range b.d {
		top = max(top, math.Abs(v))
		if i < len(b.e) {
			top = max(top, math.Abs(b.e[i]))
		}
	}
	// It falls apart where an element beside the diagonal vanishes.
	best, from, most := band{}, 0, -1.0
	for lo, i := 0, 0; i < n; i++ {
		if i < n-1 && math.Abs(b.e[i]) >= 0.9*single*top {
			continue
		}
		if m := mass(t.x[lo : i+1]); m > most {
			best, from, most = band{b.d[lo : i+1], b.e[lo:i]}, lo, m
		}
		lo = i + 1
	}
	n = len(best.d)
	t = best.refine(triplet{t.x[from : from+n], t.y[from : from+n]})
	depth := 0
	if n > leafRows {
		depth = int(math.Log2(float64(n)/(leafRows+1))) + 1
	}
	return best.signAt(t, depth)
}

func mass(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return sum
}

func (b band) signAt(t triplet, depth int) float64 {
	n := len(b.d)
	if depth == 0 {
		return b.leaf(t)
	}
	mid := n / 2
	if math.Abs(t.x[mid]) > 1e-3 {
		return -t.x[mid]
	}
	left := band{b.d[:mid], b.e[:mid]}
	right := band{b.d[mid+1:], b.e[mid+1:]}
	alpha, beta := b.d[mid], b.e[mid]
	child, part, z := left, triplet{t.x[:mid], t.y[:mid+1]}, 0.0
	inRight := mass(t.x[mid+1:]) > mass(t.x[:mid])
	if inRight {
		child, part = right, triplet{t.x[mid+1:], t.y[mid+1:]}
	}
	part = child.refine(part)
	if inRight {
		z = beta * part.y[0]
	} else {
		z = alpha * part.y[mid]
	}
	if math.Abs(z) > deflates*max(left.norm(), right.norm(), math.Abs(alpha), math.Abs(beta)) {
		return -t.x[mid]
	}
	return child.signAt(part, depth-1)
}

// times returns b y, back bᵀ x.
func (b band) times(y []float64) []float64 {
	x := make([]float64, len(b.d))
	for i := range x {
		x[i] = b.d[i] * y[i]
		if i < len(b.e) {
			x[i] += b.e[i] * y[i+1]
		}
	}
	return x
}

func (b band) back(x []float64) []float64 {
	y := make([]float64, max(len(b.d), len(b.e)+1))
	for i, v := range x {
		y[i] += b.d[i] * v
		if i < len(b.e) {
			y[i+1] += b.e[i] * v
		}
	}
	return y
}

// norm is about the largest singular value.
func (b band) norm() float64 {
	y := make([]float64, max(len(b.d), len(b.e)+1))
	for i := range y {
		y[i] = 1 + float64(i%3)
	}
	s := 0.0
	for range 40 {
		scale(y, 1/math.Sqrt(max(mass(y), math.SmallestNonzeroFloat64)))
		x := b.times(y)
		s = math.Sqrt(mass(x))
		y = b.back(x)
	}
	return s
}

func scale(x []float64, f float64) {
	for i := range x {
		x[i] *= f
	}
}

// refine returns the triplet of b that is nearest to t, with t's sign, by inverse
// iteration on the symmetric matrix of b and bᵀ, whose rows are taken in turns.
func (b band) refine(t triplet) triplet {
	n := len(t.x) + len(t.y)
	w, off := make([]float64, n), make([]float64, n-1)
	for i := range t.y {
		w[2*i] = t.y[i]
		if i < len(t.x) {
			w[2*i+1] = t.x[i]
		}
	}
	for i := range off {
		if off[i] = b.d[i/2]; i%2 == 1 {
			off[i] = b.e[i/2]
		}
	}
	start := append([]float64(nil), w...)
	var l impl.Implementation
	for range 3 {
		scale(w, 1/math.Sqrt(mass(w)))
		sigma := 0.0
		for i, v := range off {
			sigma += 2 * v * w[i] * w[i+1]
		}
		main := make([]float64, n)
		for i := range main {
			main[i] = -sigma * (1 + 4e-16)
		}
		next := append([]float64(nil), w...)
		if !l.Dgtsv(n, 1, append([]float64(nil), off...), main, append([]float64(nil), off...), next, 1) || mass(next)-mass(next) != 0 {
			break
		}
		w = next
	}
	dot := 0.0
	for i := range w {
		dot += w[i] * start[i]
	}
	scale(w, math.Copysign(math.Sqrt(2/mass(w)), dot))
	out := triplet{make([]float64, len(t.x)), make([]float64, len(t.y))}
	for i := range t.y {
		out.y[i] = w[2*i]
		if i < len(t.x) {
			out.x[i] = w[2*i+1]
		}
	}
	return out
}
