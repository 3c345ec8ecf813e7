package nn

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// RowNorms returns the Euclidean length of every row of W + the sum of
// Scale*B·A of terms, [w.Out]: the norm of each output feature of a linear layer
// with its additions, by which DoRA (Liu et al. 2024) divides. Rows are decoded one
// by one; no gradient is recorded, as DoRA takes the norm for a constant. X of the
// terms is not read; a nil B adds nothing, A must be set.
func RowNorms(w *Weight, terms ...LowRank) []float32 {
	out := make([]float32, w.Out)
	rows, cols := w.stored()
	var factors []normTerm
	for _, l := range terms {
		if l.B == nil || l.Scale == 0 {
			continue
		}
		// Row i of the stored matrix gets left[i,:]·right.
		f := normTerm{l.B.Mat(), l.A.Mat(), l.Scale}
		if w.Transposed {
			f.left, f.right = transposedCopy(f.right), transposedCopy(f.left)
		}
		factors = append(factors, f)
	}
	row := func(dst []float32, i int) {
		w.Row(dst, i)
		for _, f := range factors {
			for k, c := range f.left.Row(i) {
				kernels.Axpy(f.scale*c, f.right.Row(k), dst)
			}
		}
	}
	if !w.Transposed {
		eachRow(rows, cols, func(lo, hi int) {
			tmp := make([]float32, cols)
			for i := lo; i < hi; i++ {
				row(tmp, i)
				out[i] = float32(math.Sqrt(float64(kernels.SumSquares(tmp))))
			}
		})
		return out
	}
	// Features are columns: sums of 64 rows each, added in order.
	const band = 64
	sums := kernels.NewMat((rows+band-1)/band, cols)
	kernels.Parallel(sums.Rows, 1, func(lo, hi int) {
		tmp := make([]float32, cols)
		for b := lo; b < hi; b++ {
			for i := b * band; i < min((b+1)*band, rows); i++ {
				row(tmp, i)
				kernels.Mul(tmp, tmp, tmp)
				kernels.Add(sums.Row(b), sums.Row(b), tmp)
			}
		}
	})
	for b := range sums.Rows {
		kernels.Add(out, out, sums.Row(b))
	}
	for i, v := range out {
		out[i] = float32(math.Sqrt(float64(v)))
	}
	return out
}

type normTerm struct {
	left, right kernels.Mat
	scale       float32
}

func transposedCopy(m kernels.Mat) kernels.Mat {
	out := kernels.NewMat(m.Cols, m.Rows)
	transposeTo(out, m, 1, false)
	return out
}
