package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// Minus returns a - b and leaves both alone.
func Minus(t *Tape, a, b *Var) *Var {
	sameShape("difference", a, b)
	out := t.New(a.Rows, a.Cols)
	out.Needs = a.Needs || b.Needs
	am, bm := a.Mat().Data, b.Mat().Data
	kernels.Parallel(len(out.Data), grain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			out.Data[i] = am[i] - bm[i]
		}
	})
	t.record(out, func() {
		if b.Needs {
			m, acc := t.Grad(b)
			scaleTo(m.Data, out.Grad, -1, acc)
		}
		t.passGrad(a, out)
	})
	return out
}

// Div returns a / b, element by element.
func Div(t *Tape, a, b *Var) *Var {
	sameShape("quotient", a, b)
	out := t.New(a.Rows, a.Cols)
	out.Needs = a.Needs || b.Needs
	am, bm := a.Mat().Data, b.Mat().Data
	kernels.Parallel(len(out.Data), grain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			out.Data[i] = am[i] / bm[i]
		}
	})
	saved := []*Var{b}
	if b.Needs {
		saved = append(saved, out)
	}
	t.record(out, func() {
		bm, dy := b.Mat().Data, out.Grad
		if a.Needs {
			m, acc := t.Grad(a)
			each(len(dy), func(lo, hi int, tmp []float32) {
				for i := lo; i < hi; i++ {
					tmp[i-lo] = dy[i] / bm[i]
				}
				give(m.Data[lo:hi], tmp, acc)
			})
		}
		if b.Needs {
			y := out.Mat().Data
			m, acc := t.Grad(b)
			each(len(dy), func(lo, hi int, tmp []float32) {
				for i := lo; i < hi; i++ {
					tmp[i-lo] = -dy[i] * y[i] / bm[i]
				}
				give(m.Data[lo:hi], tmp, acc)
			})
		}
	}, saved...)
	return out
}

// ScaleBy returns x * s for a variable s of one element.
func ScaleBy(t *Tape, x, s *Var) *Var {
	if s.Rows*s.Cols != 1 {
		panic(fmt.Sprintf("nn: ScaleBy [%d,%d]", s.Rows, s.Cols))
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs || s.Needs
	scaleTo(out.Data, x.Mat().Data, s.Mat().Data[0], false)
	t.record(out, func() {
		if s.Needs {
			t.zeroed(s).Data[0] += dot64(out.Grad, x.Mat().Data)
		}
		if x.Needs {
			m, acc := t.Grad(x)
			scaleTo(m.Data, out.Grad, s.Mat().Data[0], acc)
		}
	}, partners(s, x)...)
	return out
}

// dot64 is the sum of a[i]*b[i], slices of sliceLen summed in float64.
func dot64(a, b []float32) float32 {
	parts := make([]float32, (len(a)+sliceLen-1)/sliceLen)
	kernels.Parallel(len(parts), grain/sliceLen, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			end := min((i+1)*sliceLen, len(a))
			parts[i] = kernels.Dot(a[i*sliceLen:end], b[i*sliceLen:end])
		}
	})
	sum := 0.0
	for _, p := range parts {
		sum += float64(p)
	}
	return float32(sum)
}

// AddRow returns x with row, of x.Cols elements, added to every row.
func AddRow(t *Tape, x, row *Var) *Var {
	if row.Rows*row.Cols != x.Cols {
		panic(fmt.Sprintf("nn: AddRow of %d elements to [%d,%d]", row.Rows*row.Cols, x.Rows, x.Cols))
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs || row.Needs
	xm, o, b := x.Mat(), out.Mat(), row.Mat().Data
	eachRow(x.Rows, x.Cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			kernels.Add(o.Row(r), xm.Row(r), b)
		}
	})
	t.record(out, func() {
		if row.Needs {
			columnSum(t.zeroed(row).Data, out.gradMat(), nil, nil)
		}
		t.passGrad(x, out)
	})
	return out
}

// MulCol returns x with row r multiplied by element r of col, which has x.Rows
// elements.
func MulCol(t *Tape, x, col *Var) *Var {
	if col.Rows*col.Cols != x.Rows {
		panic(fmt.Sprintf("nn: MulCol of [%d,%d] by %d elements", x.Rows, x.Cols, col.Rows*col.Cols))
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs || col.Needs
	xm, o, c := x.Mat(), out.Mat(), col.Mat().Data
	eachRow(x.Rows, x.Cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(o.Row(r), xm.Row(r))
			kernels.Scale(o.Row(r), c[r])
		}
	})
	t.record(out, func() {
		dy := out.gradMat()
		if col.Needs {
			xm, m := x.Mat(), t.zeroed(col).Data
			eachRow(x.Rows, x.Cols, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					m[r] += kernels.Dot(dy.Row(r), xm.Row(r))
				}
			})
		}
		if x.Needs {
			c := col.Mat().Data
			m, acc := t.Grad(x)
			eachRow(x.Rows, x.Cols, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					d := m.Row(r)
					if !acc {
						clear(d)
					}
					kernels.Axpy(c[r], dy.Row(r), d)
				}
			})
		}
	}, partners(col, x)...)
	return out
}
