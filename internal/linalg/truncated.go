package linalg

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
)

const (
	krylovBlock = 8 // vectors added per step: singular values that often repeat are found
	// A triplet is good when its residual is below subspaceTol times the distance
	// of the values kept from the others: the angle between the spaces. Where that
	// distance vanishes, minResidual times the largest value is enough.
	subspaceTol = 1e-7
	minResidual = 1e-10
)

// TruncatedSVD returns the first rank singular triplets of a [rows, cols]: u
// [rows, rank], s, vt [rank, cols], as [SVD] would. rank may not exceed the
// smaller side.
//
// It grows a block Krylov space (Musco and Musco 2015) from a fixed seed until
// the space of the vectors kept is right to 1e-7, and
// computes the whole decomposition where that would be as much work.
func TruncatedSVD(a []float32, rows, cols, rank int) (u, s, vt []float32, err error) {
	m := dense(a, rows, cols)
	small := min(rows, cols)
	if rank < 1 || rank > small {
		panic("linalg: more singular values than the matrix has")
	}
	if err := finite(a, cols); err != nil {
		return nil, nil, nil, err
	}
	limit := small * 2 / 5 // vectors; beyond, the whole decomposition is as cheap
	if rows < cols {
		// The basis lies on the short side.
		if u, s, vt, ok := krylov(m, rank, limit); ok {
			return u, s, vt, nil
		}
	} else if vt, s, u, ok := krylov(m.T(), rank, limit); ok {
		return transposed(u, rank, rows), s, transposed(vt, cols, rank), nil
	}
	return factors(m, rank)
}

func transposed(a []float32, rows, cols int) []float32 {
	out := make([]float32, len(a))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = a[i*cols+j]
		}
	}
	return out
}

// krylov reports false when it needs more than limit vectors.
func krylov(a mat.Matrix, rank, limit int) (u, s, vt []float32, ok bool) {
	rows, cols := a.Dims()
	if limit < rank+2*krylovBlock {
		return nil, nil, nil, false
	}
	r := rand.New(rand.NewPCG(0x5eed, 0))
	random := func(n int) *mat.Dense {
		d := mat.NewDense(n, krylovBlock, nil)
		for i := range n {
			for j := range krylovBlock {
				d.Set(i, j, r.NormFloat64())
			}
		}
		return d
	}
	steps := limit / krylovBlock
	basis := mat.NewDense(rows, steps*krylovBlock, nil) // orthonormal columns
	image := mat.NewDense(cols, steps*krylovBlock, nil) // aᵀ·basis
	next := new(mat.Dense)
	next.Mul(a, random(cols))
	check := 2 * rank
	for step := range steps {
		n := step * krylovBlock
		scale := mat.Norm(next, 2)
		if !orthonormal(next, basis.Slice(0, rows, 0, max(n, 1)), n, scale) {
			// The space is exhausted: anything new will do.
			next = random(rows)
			orthonormal(next, basis.Slice(0, rows, 0, max(n, 1)), n, 0)
		}
		basis.Slice(0, rows, n, n+krylovBlock).(*mat.Dense).Copy(next)
		part := image.Slice(0, cols, n, n+krylovBlock).(*mat.Dense)
		part.Mul(a.T(), next)
		next = mat.NewDense(rows, krylovBlock, nil)
		next.Mul(a, part)
		n += krylovBlock
		if n < check || n < rank+krylovBlock {
			continue
		}
		check = n + max(2*krylovBlock, n/3)
		if u, s, vt, ok := ritz(a, basis.Slice(0, rows, 0, n), image.Slice(0, cols, 0, n), rank); ok {
			return u, s, vt, true
		}
	}
	return nil, nil, nil, false
}

// orthonormal makes the columns of x orthonormal and orthogonal to the first n
// columns of basis. It reports false when a column all but vanishes against
// scale.
func orthonormal(x *mat.Dense, basis mat.Matrix, n int, scale float64) bool {
	_, cols := x.Dims()
	for range 2 { // once leaves rounding behind
		if n > 0 {
			var c, p mat.Dense
			c.Mul(basis.T(), x)
			p.Mul(basis, &c)
			x.Sub(x, &p)
		}
		_, r := thinQR(x)
		for j := range cols {
			if math.Abs(r.At(j, j)) <= 1e-12*scale {
				return false
			}
		}
		scale = 0
	}
	return true
}

// ritz returns the best triplets in the space of basis, and whether they are those
// of a.
func ritz(a, basis, image mat.Matrix, rank int) (u, s, vt []float32, ok bool) {
	rows, _ := basis.Dims()
	_, n := image.Dims()
	// image = q·r, r = x·S·yᵀ: v = q·x, u = basis·y.
	q, r := thinQR(mat.DenseCopyOf(image))
	var f mat.SVD
	if !f.Factorize(r, mat.SVDThin) {
		return nil, nil, nil, false
	}
	var x, y, um, vm, rest mat.Dense
	f.UTo(&x)
	f.VTo(&y)
	values := f.Values(nil)
	um.Mul(basis, y.Slice(0, n, 0, rank))
	vm.Mul(q, x.Slice(0, n, 0, rank))
	rest.Mul(a, &vm)
	tol := minResidual * values[0]
	if rank < n {
		tol = max(tol, subspaceTol*(values[rank-1]-values[rank]))
	}
	for j := range rank {
		sum := 0.0
		for i := range rows {
			d := rest.At(i, j) - values[j]*um.At(i, j)
			sum += d * d
		}
		if math.Sqrt(sum) > tol {
			return nil, nil, nil, false
		}
		s = append(s, float32(values[j]))
	}
	return floats(&um, false), s, floats(&vm, true), true
}
