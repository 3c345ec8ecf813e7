package nn

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// LSTMWeights are the parameters of one layer and one direction of
// torch.nn.LSTM. The rows of all are the four gates one below the other: input,
// forget, cell, output.
type LSTMWeights struct {
	// InHid is [4*hidden, in], torch's weight_ih; HidHid is [4*hidden, hidden],
	// weight_hh.
	InHid, HidHid *Var
	// BiasIn and BiasHid have 4*hidden elements; nil for none.
	BiasIn, BiasHid *Var
}

// LSTM runs one layer in one direction over the rows of x as time, [time, in] ->
// [time, hidden], from a state of zeros (Hochreiter and Schmidhuber 1997):
//
//	i, f, o = sigmoid(x·W + h·U + b); g = tanh(x·W + h·U + b)
//	c = f*c + i*g; h = o*tanh(c)
//
// With reverse it goes from the last row to the first, and row t of the result
// still belongs to row t of x. For two directions, join the results with
// ConcatCols; for more layers, feed the result to the next.
func LSTM(t *Tape, x *Var, w LSTMWeights, reverse bool) *Var {
	n := w.HidHid.Cols
	if w.InHid.Cols != x.Cols || w.InHid.Rows != 4*n || w.HidHid.Rows != 4*n {
		panic(fmt.Sprintf("nn: LSTM of rows of %d with weights [%d,%d] and [%d,%d]",
			x.Cols, w.InHid.Rows, w.InHid.Cols, w.HidHid.Rows, w.HidHid.Cols))
	}
	vars := []*Var{x, w.InHid, w.HidHid}
	for _, b := range []*Var{w.BiasIn, w.BiasHid} {
		if b != nil {
			if b.Rows*b.Cols != 4*n {
				panic(fmt.Sprintf("nn: LSTM with a bias of %d elements for %d units", b.Rows*b.Cols, n))
			}
			vars = append(vars, b)
		}
	}
	out := t.New(x.Rows, n)
	for _, v := range vars {
		out.Needs = out.Needs || v.Needs
	}
	gates, cells := t.New(x.Rows, 4*n), t.New(x.Rows, n)
	l := &lstm{w: w, n: n, reverse: reverse, x: x, out: out, gates: gates, cells: cells}
	l.forward()
	t.record(out, func() { l.backward(t) }, append(vars, out, gates, cells)...)
	t.Discard(gates)
	t.Discard(cells)
	return out
}

type lstm struct {
	w                    LSTMWeights
	n                    int
	reverse              bool
	x, out, gates, cells *Var // gates after their activation
}

// step returns the row of step s, and of the step before it (-1 for the first).
func (l *lstm) step(s int) (row, before int) {
	if l.reverse {
		row = l.x.Rows - 1 - s
		if s == 0 {
			return row, -1
		}
		return row, row + 1
	}
	return s, s - 1
}

func (l *lstm) forward() {
	n, g, c, h := l.n, l.gates.Mat(), l.cells.Mat(), l.out.Mat()
	bias := kernels.NewMat(1, 4*n).Data
	for _, b := range []*Var{l.w.BiasIn, l.w.BiasHid} {
		if b != nil {
			kernels.Add(bias, bias, b.Mat().Data)
		}
	}
	for r := range g.Rows {
		copy(g.Row(r), bias)
	}
	kernels.Gemm(g, true, kernels.Term{A: l.x.Mat(), B: l.w.InHid.Mat(), TransB: true})
	hh := l.w.HidHid.Mat()
	for s := range g.Rows {
		r, before := l.step(s)
		row, cell, hid := g.Row(r), c.Row(r), h.Row(r)
		if before >= 0 {
			kernels.Gemm(g.RowsOf(r, r+1), true, kernels.Term{A: h.RowsOf(before, before+1), B: hh, TransB: true})
			copy(cell, c.Row(before))
		} else {
			clear(cell)
		}
		kernels.Sigmoid(row[:2*n], row[:2*n])
		for j, v := range row[2*n : 3*n] {
			row[2*n+j] = float32(math.Tanh(float64(v)))
		}
		kernels.Sigmoid(row[3*n:], row[3*n:])
		for j := range cell {
			cell[j] = row[n+j]*cell[j] + row[j]*row[2*n+j]
			hid[j] = row[3*n+j] * float32(math.Tanh(float64(cell[j])))
		}
	}
}

// backward goes through time in reverse, with dg the gradient of the gates before
// their activation, and then makes one product per weight.
func (l *lstm) backward(t *Tape) {
	n, steps := l.n, l.x.Rows
	g, c, h, hh, dy := l.gates.Mat(), l.cells.Mat(), l.out.Mat(), l.w.HidHid.Mat(), l.out.gradMat()
	dg, mem := t.scratch(steps, 4*n)
	defer t.mem.release(mem)
	dh, dc := kernels.NewMat(1, n), make([]float32, n)
	for s := steps - 1; s >= 0; s-- {
		r, before := l.step(s)
		kernels.Add(dh.Data, dh.Data, dy.Row(r))
		row, d, cell := g.Row(r), dg.Row(r), c.Row(r)
		for j := range n {
			i, f, z, o := row[j], row[n+j], row[2*n+j], row[3*n+j]
			th := float32(math.Tanh(float64(cell[j])))
			dc[j] += dh.Data[j] * o * (1 - th*th)
			last := float32(0)
			if before >= 0 {
				last = c.Row(before)[j]
			}
			d[j] = dc[j] * z * i * (1 - i)
			d[n+j] = dc[j] * last * f * (1 - f)
			d[2*n+j] = dc[j] * i * (1 - z*z)
			d[3*n+j] = dh.Data[j] * th * o * (1 - o)
			dc[j] *= f
		}
		if before >= 0 {
			kernels.Gemm(dh, false, kernels.Term{A: dg.RowsOf(r, r+1), B: hh})
		}
	}
	for _, b := range []*Var{l.w.BiasIn, l.w.BiasHid} {
		if b != nil && b.Needs {
			columnSum(t.zeroed(b).Data, dg, nil, nil)
		}
	}
	if v := l.w.InHid; v.Needs {
		m, acc := t.Grad(v)
		kernels.Gemm(m, acc, kernels.Term{A: dg, TransA: true, B: l.x.Mat()})
	}
	if v := l.w.HidHid; v.Needs {
		m, acc := t.Grad(v)
		// The gates of a row read the state of the row before it.
		to, from := dg.RowsOf(min(1, steps), steps), h.RowsOf(0, max(0, steps-1))
		if l.reverse {
			to, from = dg.RowsOf(0, max(0, steps-1)), h.RowsOf(min(1, steps), steps)
		}
		kernels.Gemm(m, acc, kernels.Term{A: to, TransA: true, B: from})
	}
	if l.x.Needs {
		m, acc := t.Grad(l.x)
		kernels.Gemm(m, acc, kernels.Term{A: dg, B: l.w.InHid.Mat()})
	}
}
