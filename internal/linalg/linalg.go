// Package linalg factorises float32 matrices, row after row in a slice, with
// float64 arithmetic inside. It is a thin layer over gonum, whose routines follow
// LAPACK: the signs of a QR decomposition are those of torch.linalg.qr. Results
// do not depend on the number of threads.
package linalg

import (
	"fmt"

	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// dense copies a to float64.
func dense(a []float32, rows, cols int) *mat.Dense {
	if rows < 1 || cols < 1 || len(a) != rows*cols {
		panic(fmt.Sprintf("linalg: %d elements for a matrix [%d,%d]", len(a), rows, cols))
	}
	d := make([]float64, len(a))
	for i, v := range a {
		d[i] = float64(v)
	}
	return mat.NewDense(rows, cols, d)
}

// floats rounds m, or with trans its transpose, to float32.
func floats(m mat.Matrix, trans bool) []float32 {
	if trans {
		m = m.T()
	}
	rows, cols := m.Dims()
	out := make([]float32, 0, rows*cols)
	for i := range rows {
		for j := range cols {
			out = append(out, float32(m.At(i, j)))
		}
	}
	return out
}

// SVD returns the thin singular value decomposition a = u·diag(s)·vt of a matrix
// [rows, cols]: u is [rows, k], s has k values in falling order, vt is [k, cols],
// k = min(rows, cols). The sign of each pair of vectors is arbitrary. It returns
// an error when a has elements that are not finite.
func SVD(a []float32, rows, cols int) (u, s, vt []float32, err error) {
	if err := finite(a, cols); err != nil {
		return nil, nil, nil, err
	}
	return factors(dense(a, rows, cols), min(rows, cols))
}

func finite(a []float32, cols int) error {
	for i, v := range a {
		if v-v != 0 {
			return fmt.Errorf("linalg: element [%d,%d] of a matrix is %v: it has neither inverse nor singular values", i/cols, i%cols, v)
		}
	}
	return nil
}

// factors returns the first k singular triplets.
func factors(a *mat.Dense, k int) (u, s, vt []float32, err error) {
	var f mat.SVD
	if !f.Factorize(a, mat.SVDThin) {
		rows, cols := a.Dims()
		return nil, nil, nil, fmt.Errorf("linalg: the singular values of a matrix [%d,%d] do not converge", rows, cols)
	}
	var um, vm mat.Dense
	f.UTo(&um)
	f.VTo(&vm)
	rows, _ := um.Dims()
	cols, _ := vm.Dims()
	for _, v := range f.Values(nil)[:k] {
		s = append(s, float32(v))
	}
	return floats(um.Slice(0, rows, 0, k), false), s, floats(vm.Slice(0, cols, 0, k), true), nil
}

// QR returns the reduced decomposition a = q·r of a matrix [rows, cols]: q is
// [rows, k] with orthonormal columns, r is [k, cols] upper triangular, k =
// min(rows, cols). The diagonal of r has LAPACK's signs (Householder vectors that
// do not cancel), so both equal those of torch.linalg.qr up to rounding.
func QR(a []float32, rows, cols int) (q, r []float32) {
	if rows >= cols {
		qm, rm := thinQR(dense(a, rows, cols))
		return floats(qm, false), floats(rm, false)
	}
	return LeadingQR(a, rows, cols, rows)
}

// LeadingQR returns the first k columns of q, [rows, k], and the first k rows of r,
// [k, cols], of [QR]: they depend on the first k columns of a alone, so that a
// small k costs little. k is at most min(rows, cols).
func LeadingQR(a []float32, rows, cols, k int) (q, r []float32) {
	m := dense(a, rows, cols)
	qm, _ := thinQR(mat.DenseCopyOf(m.Slice(0, rows, 0, k)))
	var rm mat.Dense
	rm.Mul(qm.T(), m)
	for i := range k {
		for j := range i {
			rm.Set(i, j, 0)
		}
	}
	return floats(qm, false), floats(&rm, false)
}

// thinQR decomposes a, which is not wider than tall, and overwrites it with q.
func thinQR(a *mat.Dense) (q, r *mat.Dense) {
	g := a.RawMatrix()
	tau := make([]float64, g.Cols)
	work := make([]float64, 1)
	lapack64.Geqrf(g, tau, work, -1)
	work = make([]float64, int(work[0]))
	lapack64.Geqrf(g, tau, work, len(work))
	r = mat.NewDense(g.Cols, g.Cols, nil)
	for i := range g.Cols {
		for j := i; j < g.Cols; j++ {
			r.Set(i, j, a.At(i, j))
		}
	}
	lapack64.Orgqr(g, tau, work[:1], -1)
	work = make([]float64, int(work[0]))
	lapack64.Orgqr(g, tau, work, len(work))
	return a, r
}

// Solve returns x of a·x = b for a [n, n] and b [n, cols]. It returns an error
// when a is singular to working precision.
func Solve(a []float32, n int, b []float32, cols int) ([]float32, error) {
	return NewSolver(a, n).Solve(b, cols)
}

// Solver solves for one matrix and many right sides.
type Solver struct {
	lu  mat.LU
	n   int
	err error
}

// NewSolver factorises a, [n, n].
func NewSolver(a []float32, n int) *Solver {
	s := &Solver{n: n, err: finite(a, n)}
	if s.err != nil {
		return s
	}
	s.lu.Factorize(dense(a, n, n))
	return s
}

// Solve is [Solve] for another b. It may be called from several goroutines.
func (s *Solver) Solve(b []float32, cols int) ([]float32, error) {
	if s.err != nil {
		return nil, s.err
	}
	var x mat.Dense
	if err := s.lu.SolveTo(&x, false, dense(b, s.n, cols)); err != nil {
		return nil, fmt.Errorf("linalg: solving for a matrix [%d,%d]: %w", s.n, s.n, err)
	}
	return floats(&x, false), nil
}
