package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// SelectCols returns the given columns of x, [x.Rows, len(cols)], in that order;
// a column may repeat. It permutes features.
func SelectCols(t *Tape, x *Var, cols []int32) *Var {
	for _, c := range cols {
		if c < 0 || int(c) >= x.Cols {
			panic(fmt.Sprintf("nn: SelectCols of column %d of %d", c, x.Cols))
		}
	}
	out := t.New(x.Rows, len(cols))
	out.Needs = x.Needs
	xm, o := x.Mat(), out.Mat()
	eachRow(x.Rows, len(cols), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			from, to := xm.Row(r), o.Row(r)
			for i, c := range cols {
				to[i] = from[c]
			}
		}
	})
	t.record(out, func() {
		m, dy := t.zeroed(x), out.gradMat()
		eachRow(x.Rows, len(cols), func(lo, hi int) {
			for r := lo; r < hi; r++ {
				from, to := dy.Row(r), m.Row(r)
				for i, c := range cols {
					to[c] += from[i]
				}
			}
		})
	})
	return out
}

// ScatterRows returns [n, x.Cols], zeros but for the rows of x: row i is added to
// row rows[i].
func ScatterRows(t *Tape, x *Var, rows []int32, n int) *Var {
	if len(rows) != x.Rows {
		panic(fmt.Sprintf("nn: ScatterRows of %d rows to %d places", x.Rows, len(rows)))
	}
	for _, r := range rows {
		if r < 0 || int(r) >= n {
			panic(fmt.Sprintf("nn: ScatterRows to row %d of %d", r, n))
		}
	}
	out := t.New(n, x.Cols)
	out.Needs = x.Needs
	clear(out.Data)
	scatterRows(out.Mat(), x.Mat(), rows)
	t.record(out, func() {
		m, acc := t.Grad(x)
		dy := out.gradMat()
		eachRow(len(rows), x.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				give(m.Row(i), dy.Row(int(rows[i])), acc)
			}
		})
	})
	return out
}

// Gather returns a [rows, cols] matrix whose element i, counted row by row, is
// element index[i] of x, counted the same way, and 0 where index[i] is -1. An
// element of x may be read many times. It builds matrices from the numbers that
// are stored for them: symmetric, circulant, sparse.
func Gather(t *Tape, x *Var, index []int32, rows, cols int) *Var {
	if len(index) != rows*cols {
		panic(fmt.Sprintf("nn: Gather of %d elements as [%d,%d]", len(index), rows, cols))
	}
	for _, j := range index {
		if j < -1 || int(j) >= x.Rows*x.Cols {
			panic(fmt.Sprintf("nn: Gather of element %d of %d", j, x.Rows*x.Cols))
		}
	}
	out := t.New(rows, cols)
	out.Needs = x.Needs
	src := x.Mat().Data
	kernels.Parallel(len(index), grain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			v := float32(0)
			if j := index[i]; j >= 0 {
				v = src[j]
			}
			out.Data[i] = v
		}
	})
	t.record(out, func() {
		m := t.zeroed(x).Data
		for i, j := range index {
			if j >= 0 {
				m[j] += out.Grad[i]
			}
		}
	})
	return out
}

// Scatter returns a [rows, cols] matrix of zeros to whose element index[i],
// counted row by row, element i of x is added.
func Scatter(t *Tape, x *Var, index []int32, rows, cols int) *Var {
	if len(index) != x.Rows*x.Cols {
		panic(fmt.Sprintf("nn: Scatter of %d elements to %d places", x.Rows*x.Cols, len(index)))
	}
	for _, j := range index {
		if j < 0 || int(j) >= rows*cols {
			panic(fmt.Sprintf("nn: Scatter to element %d of %d", j, rows*cols))
		}
	}
	out := t.New(rows, cols)
	out.Needs = x.Needs
	clear(out.Data)
	for i, v := range x.Mat().Data[:len(index)] {
		out.Data[index[i]] += v
	}
	t.record(out, func() {
		m, acc := t.Grad(x)
		kernels.Parallel(len(index), grain, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				g := out.Grad[index[i]]
				if acc {
					g += m.Data[i]
				}
				m.Data[i] = g
			}
		})
	})
	return out
}
