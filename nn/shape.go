package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// View returns the elements of x, row after row, as a matrix of another shape.
// It shares the memory of a parameter or constant, so it must not be changed in
// place; an activation is copied.
func View(t *Tape, x *Var, rows, cols int) *Var {
	if rows < 0 || cols < 0 || rows*cols != x.Rows*x.Cols {
		panic(fmt.Sprintf("nn: View of [%d,%d] as [%d,%d]", x.Rows, x.Cols, rows, cols))
	}
	var out *Var
	if x.tape == nil {
		t.seq++
		out = &Var{Rows: rows, Cols: cols, tape: t, seq: t.seq, Data: x.Mat().Data}
	} else {
		out = t.New(rows, cols)
		copyParallel(out.Data, x.Mat().Data)
	}
	out.Needs = x.Needs
	t.record(out, func() { t.passGrad(x, out) })
	return out
}

// Transpose returns xᵀ.
func Transpose(t *Tape, x *Var) *Var { return TransposeEach(t, x, 1) }

// TransposeEach transposes each of n matrices that lie one below the other:
// [n*r, c] -> [n*c, r].
func TransposeEach(t *Tape, x *Var, n int) *Var {
	r := split("TransposeEach", x.Rows, n)
	out := t.New(n*x.Cols, r)
	out.Needs = x.Needs
	transposeTo(out.Mat(), x.Mat(), n, false)
	t.record(out, func() {
		m, acc := t.Grad(x)
		transposeTo(m, out.gradMat(), n, acc)
	})
	return out
}

// split returns rows/n and panics when that leaves a rest.
func split(op string, rows, n int) int {
	if n < 1 || rows%n != 0 {
		panic(fmt.Sprintf("nn: %s: %d rows are not %d matrices", op, rows, n))
	}
	return rows / n
}

// transposeTo goes by tiles that fit the cache.
func transposeTo(dst, src kernels.Mat, n int, acc bool) {
	const tile = 32
	rows, cols := src.Rows/n, src.Cols
	bands := (cols + tile - 1) / tile
	kernels.Parallel(n*bands, max(1, grain/max(1, tile*rows)), func(lo, hi int) {
		for b := lo; b < hi; b++ {
			s, d := src.RowsOf(b/bands*rows, (b/bands+1)*rows), dst.RowsOf(b/bands*cols, (b/bands+1)*cols)
			c0 := b % bands * tile
			c1 := min(c0+tile, cols)
			if !acc {
				kernels.Transpose(d.RowsOf(c0, c1), columnsOf(s, c0, c1))
				continue
			}
			for r0 := 0; r0 < rows; r0 += tile {
				r1 := min(r0+tile, rows)
				for c := c0; c < c1; c++ {
					to := d.Row(c)[r0:r1]
					at := r0*s.Stride + c
					for i := range to {
						to[i] += s.Data[at]
						at += s.Stride
					}
				}
			}
		}
	})
}

// ConcatCols returns the columns of all parts, one part beside the other.
func ConcatCols(t *Tape, parts ...*Var) *Var {
	if len(parts) == 0 {
		panic("nn: ConcatCols of nothing")
	}
	rows, cols := parts[0].Rows, 0
	for _, p := range parts {
		if p.Rows != rows {
			panic(fmt.Sprintf("nn: ConcatCols of %d and %d rows", rows, p.Rows))
		}
		cols += p.Cols
	}
	out := t.New(rows, cols)
	o, at := out.Mat(), 0
	for _, p := range parts {
		out.Needs = out.Needs || p.Needs
		m := p.Mat()
		eachRow(rows, p.Cols, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				copy(o.Row(r)[at:], m.Row(r))
			}
		})
		at += p.Cols
	}
	t.record(out, func() {
		dy, at := out.gradMat(), 0
		for _, p := range parts {
			if p.Needs {
				m, acc := t.Grad(p)
				eachRow(rows, p.Cols, func(lo, hi int) {
					for r := lo; r < hi; r++ {
						give(m.Row(r), dy.Row(r)[at:at+p.Cols], acc)
					}
				})
			}
			at += p.Cols
		}
	})
	return out
}

// RepeatRows returns x n times, one copy below the other (torch's x.repeat(n, 1)).
// GatherRows repeats single rows.
func RepeatRows(t *Tape, x *Var, n int) *Var {
	if n < 0 {
		panic(fmt.Sprintf("nn: RepeatRows %d times", n))
	}
	out := t.New(n*x.Rows, x.Cols)
	out.Needs = x.Needs
	src := x.Mat().Data
	for i := range n {
		copyParallel(out.Data[i*len(src):(i+1)*len(src)], src)
	}
	t.record(out, func() {
		m := t.zeroed(x).Data
		for i := range n {
			addParallel(m, m, out.Grad[i*len(m):(i+1)*len(m)])
		}
	})
	return out
}
