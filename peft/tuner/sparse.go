package tuner

import (
	"slices"
	"sort"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// Sparse adds trained numbers to chosen elements of a linear layer's weight. The
// weight stays in the type it is stored in: the numbers are added as it is decoded,
// and only their gradients are computed.
type Sparse struct {
	Place *Place
	V     *nn.Param // [n]
	// Rows and Cols say which elements of [out, in] are meant, one for each number.
	Rows, Cols []int32

	order  Order // by stored rows
	byRow  Order // by rows of [out, in]
	sorted sync.Once
}

// Attach hooks the change into the layer, multiplied by scale. Rows and Cols must
// not change any more.
func (s *Sparse) Attach(scale float32) {
	if s.Place.Mod.Weight().Transposed {
		s.order = NewOrder(s.Cols, s.Rows, s.Place.In, s.Place.Out)
	} else {
		s.order = NewOrder(s.Rows, s.Cols, s.Place.Out, s.Place.In)
	}
	e := Elements{
		Layer: s.Place.Mod.Linear, Params: []*nn.Var{s.V.V},
		Change: func(v []float32, row, col int) { s.order.Add(v, row, col, s.V.V.Data, scale) },
		Grad:   func(t *nn.Tape, _ *nn.Weight, x, dy kernels.Mat) { s.AddGrad(t, x, dy, scale) },
		Dense: func(t *nn.Tape) *nn.Var {
			index := make([]int32, len(s.Rows))
			for k := range index {
				index[k] = s.Rows[k]*int32(s.Place.In) + s.Cols[k]
			}
			return nn.Scale(t, nn.Scatter(t, s.V.V, index, s.Place.Out, s.Place.In), scale)
		},
	}
	e.Attach()
}

// MergeRows is that of a [RowMerging].
func (s *Sparse) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	o := s.rows(s.Place.Out, s.Place.In)
	for r := r0; r < r1; r++ {
		o.Add(w.Row(r-r0), r, 0, s.V.V.Data, scale)
	}
}

// AddGrad adds to the gradient of the numbers scale times the elements of dyᵀ·x, of
// inputs x and a gradient dy of outputs, that Rows and Cols say.
func (s *Sparse) AddGrad(t *nn.Tape, x, dy kernels.Mat, scale float32) {
	if len(s.Rows) > x.Cols*dy.Cols/dense {
		s.gradOfMany(t, x, dy, scale)
	} else {
		s.grad(t, x, dy, scale)
	}
}

// rows is the order by rows of a matrix [out, in].
func (s *Sparse) rows(out, in int) *Order {
	s.sorted.Do(func() { s.byRow = NewOrder(s.Rows, s.Cols, out, in) })
	return &s.byRow
}

// Order lists elements by rows of a matrix.
type Order struct {
	start  []int32 // where each row begins, and where the last one ends
	col    []int32 // ascending within a row
	number []int32 // of the element in the file
}

// NewOrder orders the elements of a matrix [nRows, nCols].
func NewOrder(rows, cols []int32, nRows, nCols int) Order {
	all := make([]int32, len(rows))
	for k := range all {
		all[k] = int32(k)
	}
	byCol, _ := counted(all, cols, nCols)
	number, start := counted(byCol, rows, nRows)
	for i, k := range number {
		all[i] = cols[k]
	}
	return Order{start: start, col: all, number: number}
}

// counted sorts a list by its elements' keys, which are below n, and leaves equal
// ones as they are; start tells where each key begins.
func counted(list, key []int32, n int) (out, start []int32) {
	start = make([]int32, n+1)
	for _, k := range key {
		start[k+1]++
	}
	for i := range n {
		start[i+1] += start[i]
	}
	next := slices.Clone(start)
	out = make([]int32, len(list))
	for _, i := range list {
		at := &next[key[i]]
		out[*at] = i
		*at++
	}
	return out, start
}

// In returns the elements from column col on, n columns wide, of a row: their columns,
// which ascend, and their numbers.
func (o *Order) In(row, col, n int) (cols, numbers []int32) {
	cols, numbers = o.col[o.start[row]:o.start[row+1]], o.number[o.start[row]:o.start[row+1]]
	first := sort.Search(len(cols), func(i int) bool { return int(cols[i]) >= col })
	end := first + sort.Search(len(cols)-first, func(i int) bool { return int(cols[first+i]) >= col+n })
	return cols[first:end], numbers[first:end]
}

// Add adds scale times the values to elements col to col+len(v) of a row.
func (o *Order) Add(v []float32, row, col int, values []float32, scale float32) {
	cols, numbers := o.In(row, col, len(v))
	for i, c := range cols {
		v[int(c)-col] += float32(scale * values[numbers[i]])
	}
}

// grad computes the gradients of the chosen elements alone: for each the product
// of a column of dy and one of x, which are turned to lie in one piece.
func (s *Sparse) grad(t *nn.Tape, x, dy kernels.Mat, scale float32) {
	const chunk = 256 // rows; their columns stay in the cache
	d := s.gradient(t)
	for from := 0; from < x.Rows; from += chunk {
		to := min(from+chunk, x.Rows)
		xt, yt := turnedRows(t, x.RowsOf(from, to)), turnedRows(t, dy.RowsOf(from, to))
		xm, ym := xt.Mat(), yt.Mat()
		kernels.Parallel(len(d), 512, func(lo, hi int) {
			for k := lo; k < hi; k++ {
				d[k] += scale * kernels.Dot(ym.Row(int(s.Rows[k])), xm.Row(int(s.Cols[k])))
			}
		})
		t.Discard(xt)
		t.Discard(yt)
	}
}

// dense is the share of elements, one in so many, from which on the gradient of all
// costs less. It is an estimate: in shira's row of docs/speed.md products of single
// columns reach about a fifth of a matrix product's rate.
const dense = 4

// gradOfMany computes the gradient of the whole weight, some rows at a time, and keeps
// that of the chosen elements.
func (s *Sparse) gradOfMany(t *nn.Tape, x, dy kernels.Mat, scale float32) {
	const chunk = 256 // rows
	d, o := s.gradient(t), s.rows(dy.Cols, x.Cols)
	part := t.New(min(chunk, dy.Cols), x.Cols)
	for from := 0; from < dy.Cols; from += chunk {
		n := min(chunk, dy.Cols-from)
		g := part.Mat().RowsOf(0, n)
		cols := kernels.Mat{Data: dy.Data[from:], Rows: dy.Rows, Cols: n, Stride: dy.Stride}
		kernels.Gemm(g, false, kernels.Term{A: cols, TransA: true, B: x})
		for r := range n {
			row := g.Row(r)
			for i := o.start[from+r]; i < o.start[from+r+1]; i++ {
				d[o.number[i]] += scale * row[o.col[i]]
			}
		}
	}
	t.Discard(part)
}

// gradient returns the gradients to add to.
func (s *Sparse) gradient(t *nn.Tape) []float32 {
	g, acc := t.Grad(s.V.V)
	d := g.Row(0)
	if !acc {
		clear(d)
	}
	return d
}

// turnedRows returns the transpose of m.
func turnedRows(t *nn.Tape, m kernels.Mat) *nn.Var {
	out := t.New(m.Cols, m.Rows)
	o := out.Mat()
	kernels.Parallel(m.Cols, 32, func(lo, hi int) {
		part := kernels.Mat{Data: m.Data[lo:], Rows: m.Rows, Cols: hi - lo, Stride: m.Stride}
		kernels.Transpose(o.RowsOf(lo, hi), part)
	})
	return out
}
