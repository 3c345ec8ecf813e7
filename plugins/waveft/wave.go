package waveft

import (
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// wave adds the inverse wavelet transform of a few coefficients to a linear layer's
// weight:
//
//	Δ[r,c] = Σ v[k] fOut[r-2i[k]] fIn[c-2j[k]],
//
// each filter low-pass or high-pass. A coefficient changes as many elements as the
// square of the filter's length, 4 for Haar's: the change is added as the weight is
// decoded. The gradient of a coefficient is an element of a product of two transposed
// transforms along the features, one of the output's gradient and one of the input.
type wave struct {
	tuner.Sparse // Rows and Cols are coefficients along the two axes
	out, in      *axis

	change  *change // of stored rows
	merging sync.Once
	merged  *change // of rows of [out, in]
}

// newWave returns the change by the coefficients v, which are elements of a matrix of the weight's size.
func newWave(p *tuner.Place, v *nn.Param, rows, cols []int32, low []float64) *wave {
	w := &wave{Sparse: tuner.Sparse{Place: p, V: v}, out: newAxis(p.Out, low), in: newAxis(p.In, low)}
	w.place(rows, cols)
	return w
}

// place sets Rows and Cols for elements of the matrix of coefficients.
func (w *wave) place(rows, cols []int32) {
	w.Rows, w.Cols = make([]int32, len(rows)), make([]int32, len(rows))
	for k := range rows {
		lower, i := w.out.place(int(rows[k]))
		right, j := w.in.place(int(cols[k]))
		// PEFT's details of the upper right are high-pass along the rows, those of the lower left along the columns.
		w.Rows[k], w.Cols[k] = int32(right*w.out.half+i), int32(lower*w.in.half+j)
	}
}

// Attach hooks the change into the layer, multiplied by scale.
func (w *wave) Attach(scale float32) {
	if w.Place.Mod.Weight().Transposed {
		w.change = newChange(w.in, w.out, w.Cols, w.Rows, w.V)
	} else {
		w.change = newChange(w.out, w.in, w.Rows, w.Cols, w.V)
	}
	e := tuner.Elements{
		Layer: w.Place.Mod.Linear, Params: []*nn.Var{w.V.V},
		Change: func(v []float32, row, col int) { w.change.add(v, row, col, scale) },
		Matrix: func(dst kernels.Mat, _ *nn.Weight) { w.dense(dst, scale) },
		Grad:   func(t *nn.Tape, _ *nn.Weight, x, dy kernels.Mat) { w.grad(t, x, dy, scale) },
		Dense:  func(t *nn.Tape) *nn.Var { return w.operation(t, scale) },
	}
	e.Attach()
}

// MergeRows is that of a tuner.RowMerging.
func (w *wave) MergeRows(m kernels.Mat, r0, r1 int, scale float32) {
	c := w.byRows()
	for r := r0; r < r1; r++ {
		c.add(m.Row(r-r0), r, 0, scale)
	}
}

func (w *wave) byRows() *change {
	w.merging.Do(func() {
		if w.merged = w.change; w.merged == nil || w.merged.rows != w.out {
			w.merged = newChange(w.out, w.in, w.Rows, w.Cols, w.V)
		}
	})
	return w.merged
}

// dense writes the change as a matrix, [out, in].
func (w *wave) dense(dst kernels.Mat, scale float32) {
	c := w.byRows()
	kernels.Parallel(dst.Rows, 16, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			clear(dst.Row(r))
			c.add(dst.Row(r), r, 0, scale)
		}
	})
}

// grad adds the gradients of the coefficients, some rows at a time.
func (w *wave) grad(t *nn.Tape, x, dy kernels.Mat, scale float32) {
	const chunk = 256
	xs, dys := t.New(min(chunk, x.Rows), 2*w.in.half), t.New(min(chunk, x.Rows), 2*w.out.half)
	for from := 0; from < x.Rows; from += chunk {
		to := min(from+chunk, x.Rows)
		xm, dym := xs.Mat().RowsOf(0, to-from), dys.Mat().RowsOf(0, to-from)
		w.in.analyseRows(xm, x.RowsOf(from, to))
		w.out.analyseRows(dym, dy.RowsOf(from, to))
		w.AddGrad(t, xm, dym, scale)
	}
	t.Discard(xs)
	t.Discard(dys)
}

// operation computes the change as a matrix on the tape.
func (w *wave) operation(t *nn.Tape, scale float32) *nn.Var {
	d := t.New(w.out.n, w.in.n)
	d.Needs = w.V.V.Needs
	fill := func(m kernels.Mat) { w.dense(m, scale) }
	fill(d.Mat())
	t.Recomputable(d, fill, w.V.V)
	t.Record(d, func() {
		g, add := t.Grad(w.V.V)
		if !add {
			clear(g.Data)
		}
		seen := kernels.NewMat(w.out.n, 2*w.in.half)
		w.in.analyseRows(seen, kernels.MatOf(d.Grad, d.Rows, d.Cols))
		for k := range w.Rows {
			f, at := w.out.f[int(w.Rows[k])/w.out.half], 2*(int(w.Rows[k])%w.out.half-w.out.pad)
			for i, v := range f {
				if r := at + i; r >= 0 && r < w.out.n {
					g.Data[k] += scale * v * seen.Row(r)[w.Cols[k]]
				}
			}
		}
	}, w.V.V)
	return d
}

// change computes rows of a change.
type change struct {
	rows, cols *axis
	order      tuner.Order
	v          *nn.Param
	room       sync.Pool
}

func newChange(rows, cols *axis, r, c []int32, v *nn.Param) *change {
	out := &change{rows: rows, cols: cols, order: tuner.NewOrder(r, c, 2*rows.half, 2*cols.half), v: v}
	out.room.New = func() any { b := make([]float32, 0, 2*cols.half); return &b }
	return out
}

// add adds scale times elements col to col+len(v) of a row.
func (c *change) add(v []float32, row, col int, scale float32) {
	first, n := c.cols.within(col, len(v))
	many := 0
	c.each(row, first, n, func(_ int, _ float32, cols, _ []int32) { many += len(cols) })
	if many > len(v) { // one transform of all, not one of each
		c.addMany(v, row, col, scale)
		return
	}
	values := c.v.V.Data
	c.each(row, first, n, func(high int, tap float32, cols, numbers []int32) {
		f := c.cols.f[high]
		for i, at := range cols {
			x := scale * tap * values[numbers[i]]
			from := 2*(int(at)-high*c.cols.half-c.cols.pad) - col
			for k := max(0, -from); k < min(len(f), len(v)-from); k++ {
				v[from+k] += x * f[k]
			}
		}
	})
}

// each calls f with the coefficients that reach a row, n places of the columns from
// first on: their filter along the columns, and the tap of the other one.
func (c *change) each(row, first, n int, f func(high int, tap float32, cols, numbers []int32)) {
	a := c.rows
	for h := range 2 {
		for m := range a.taps / 2 {
			at := h*a.half + row/2 + a.pad - m
			for high := range 2 {
				if cols, numbers := c.order.In(at, high*c.cols.half+first, n); len(cols) > 0 {
					f(high, a.f[h][2*m+row%2], cols, numbers)
				}
			}
		}
	}
}

// addMany is add for many coefficients: it sums them by column before the filters.
func (c *change) addMany(v []float32, row, col int, scale float32) {
	first, n := c.cols.within(col, len(v))
	room := c.room.Get().(*[]float32)
	defer c.room.Put(room)
	sums := (*room)[:2*n]
	clear(sums)
	values := c.v.V.Data
	c.each(row, first, n, func(high int, tap float32, cols, numbers []int32) {
		for i, at := range cols {
			sums[high*n+int(at)-high*c.cols.half-first] += scale * tap * values[numbers[i]]
		}
	})
	for high, f := range c.cols.f {
		s := sums[high*n : (high+1)*n]
		for i := range v {
			place, half := (col+i)/2+c.cols.pad-first, (col+i)%2
			for m := range c.cols.taps / 2 {
				v[i] += f[2*m+half] * s[place-m]
			}
		}
	}
}
