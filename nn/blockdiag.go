package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// columnsOf views columns c0 to c1.
func columnsOf(m kernels.Mat, c0, c1 int) kernels.Mat {
	return kernels.Mat{Data: m.Data[min(c0, len(m.Data)):], Rows: m.Rows, Cols: c1 - c0, Stride: m.Stride}
}

// wideBlock is about the size of blocks that products are made of: smaller ones
// are put together, with zeros between them, as a product of few elements costs
// more than the zeros do.
const wideBlock = 32

// BlockDiag returns x, [rows, blocks*b], times the block-diagonal matrix whose
// blocks of b x b lie one below the other in r, or with transpose times the
// transposed blocks. r is [blocks*b, b], or [b, b] for one that all share.
func BlockDiag(t *Tape, x, r *Var, blocks int, transpose bool) *Var {
	b := r.Cols
	if blocks < 1 || x.Cols != blocks*b || r.Rows != blocks*b && r.Rows != b {
		panic(fmt.Sprintf("nn: BlockDiag of [%d,%d] by %d blocks in [%d,%d]", x.Rows, x.Cols, blocks, r.Rows, r.Cols))
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs || r.Needs
	d := blockDiag{t: t, r: r, rows: x.Rows, b: b, blocks: blocks, transpose: transpose}
	if r.Rows == b {
		// One block for all is one product of rows of b elements.
		d.rows, d.blocks = x.Rows*blocks, 1
	}
	d.group = min(max(1, wideBlock/max(b, 1)), d.blocks)
	d.times(out.Mat(), x.Mat(), transpose, false)
	t.record(out, func() {
		dy := out.gradMat()
		if x.Needs {
			m, acc := t.Grad(x)
			d.times(m, dy, !transpose, acc)
		}
		if r.Needs {
			d.grads(x.Mat(), dy)
		}
	}, partners(x, r)...)
	return out
}

type blockDiag struct {
	t               *Tape
	r               *Var
	rows, b, blocks int
	group           int // blocks in one product
	transpose       bool
}

// each calls f for every group with its range of rows of the block matrix, which
// are columns of x.
func (d *blockDiag) each(f func(c0, c1 int)) {
	size := d.group * d.b
	all := d.blocks * d.b
	eachMatrix((all+size-1)/size, func(i int) { f(i*size, min((i+1)*size, all)) })
}

// columns views columns c0 to c1 of m, which holds rows of all blocks.
func (d *blockDiag) columns(m kernels.Mat, c0, c1 int) kernels.Mat {
	return columnsOf(kernels.MatOf(m.Data, d.rows, d.blocks*d.b), c0, c1)
}

// wide views the diagonal matrix of a group.
func (d *blockDiag) wide(m kernels.Mat, c0, c1 int) kernels.Mat {
	return columnsOf(m.RowsOf(c0, c1), 0, c1-c0)
}

// times computes dst = x·diag(r), or adds to dst.
func (d *blockDiag) times(dst, x kernels.Mat, transpose, acc bool) {
	r := d.r.Mat()
	if d.group > 1 {
		w, mem := d.t.scratch(d.blocks*d.b, d.group*d.b)
		defer d.t.mem.release(mem)
		eachRow(w.Rows, w.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				row := w.Row(i)
				clear(row)
				copy(row[d.offset(i):], r.Row(i))
			}
		})
		r = w
	}
	d.each(func(c0, c1 int) {
		kernels.Gemm(d.columns(dst, c0, c1), acc, kernels.Term{A: d.columns(x, c0, c1), B: d.wide(r, c0, c1), TransB: transpose})
	})
}

// offset is where the elements of row i of the block matrix lie in a group.
func (d *blockDiag) offset(i int) int { return i / d.b % d.group * d.b }

// grads adds the gradient of the blocks for input x and the gradient dy of the
// output.
func (d *blockDiag) grads(x, dy kernels.Mat) {
	product := func(dst kernels.Mat, acc bool) {
		d.each(func(c0, c1 int) {
			left, right := d.columns(x, c0, c1), d.columns(dy, c0, c1)
			if d.transpose {
				left, right = right, left
			}
			kernels.Gemm(d.wide(dst, c0, c1), acc, kernels.Term{A: left, TransA: true, B: right})
		})
	}
	if d.group == 1 {
		m, acc := d.t.Grad(d.r)
		product(m, acc)
		return
	}
	w, mem := d.t.scratch(d.blocks*d.b, d.group*d.b)
	defer d.t.mem.release(mem)
	product(w, false)
	m, acc := d.t.Grad(d.r)
	for i := range m.Rows {
		give(m.Row(i), w.Row(i)[d.offset(i):][:d.b], acc)
	}
}
