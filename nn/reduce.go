package nn

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// RowNorm returns the Euclidean length of every row as [rows, 1], but at least
// eps. A row that is shorter gets no gradient.
func RowNorm(t *Tape, x *Var, eps float32) *Var {
	out := t.New(x.Rows, 1)
	out.Needs = x.Needs
	xm := x.Mat()
	eachRow(x.Rows, x.Cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			out.Data[r] = max(float32(math.Sqrt(float64(kernels.SumSquares(xm.Row(r))))), eps)
		}
	})
	t.record(out, func() {
		xm, y := x.Mat(), out.Mat().Data
		m := t.zeroed(x)
		eachRow(x.Rows, x.Cols, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				if y[r] > eps || eps <= 0 && y[r] > 0 {
					kernels.Axpy(out.Grad[r]/y[r], xm.Row(r), m.Row(r))
				}
			}
		})
	}, x, out)
	return out
}

// SoftmaxRows returns exp(x) of every row divided by its sum.
func SoftmaxRows(t *Tape, x *Var) *Var {
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	xm, o := x.Mat(), out.Mat()
	eachRow(x.Rows, x.Cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(o.Row(r), xm.Row(r))
			kernels.Softmax(o.Row(r))
		}
	})
	t.record(out, func() {
		y, dy := out.Mat(), out.gradMat()
		m, acc := t.Grad(x)
		eachRow(x.Rows, x.Cols, func(lo, hi int) {
			tmp := make([]float32, x.Cols)
			for r := lo; r < hi; r++ {
				kernels.Mul(tmp, dy.Row(r), y.Row(r))
				kernels.Axpy(-kernels.Dot(dy.Row(r), y.Row(r)), y.Row(r), tmp)
				give(m.Row(r), tmp, acc)
			}
		})
	}, out)
	return out
}

// MeanRows returns the mean of the rows of each span, [len(spans), cols]; zeros
// for an empty span.
func MeanRows(t *Tape, x *Var, spans []Span) *Var {
	for _, s := range spans {
		if s.Start < 0 || s.End < s.Start || s.End > x.Rows {
			panic(fmt.Sprintf("nn: MeanRows of rows [%d,%d) of %d", s.Start, s.End, x.Rows))
		}
	}
	out := t.New(len(spans), x.Cols)
	out.Needs = x.Needs
	xm, o := x.Mat(), out.Mat()
	kernels.Parallel(len(spans), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			y := o.Row(i)
			clear(y)
			for r := spans[i].Start; r < spans[i].End; r++ {
				kernels.Add(y, y, xm.Row(r))
			}
			if n := spans[i].End - spans[i].Start; n > 0 {
				kernels.Scale(y, 1/float32(n))
			}
		}
	})
	t.record(out, func() {
		m, dy := t.zeroed(x), out.gradMat()
		for i, s := range spans { // spans may overlap
			scale := 1 / float32(s.End-s.Start)
			eachRow(s.End-s.Start, x.Cols, func(lo, hi int) {
				for r := s.Start + lo; r < s.Start+hi; r++ {
					kernels.Axpy(scale, dy.Row(i), m.Row(r))
				}
			})
		}
	})
	return out
}
