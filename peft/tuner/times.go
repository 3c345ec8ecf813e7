package tuner

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// Times multiplies the elements of a layer's weight by those of one plus a product
// of low rank, B·A. The weight stays in the type it is stored in: its elements are
// multiplied as they are decoded, in training on many rows as they are packed. The
// gradient needs the dense gradient of the weight, which is made and used in bands.
type Times struct {
	Layer *nn.LinearLayer
	A, B  *nn.Var // [r, in] and [out, r]
}

// Elements returns the change with B·A times scale. one is 1; with 0 the weight itself
// is left out, for AttachBeside.
func (f *Times) Elements(one, scale float32) *Elements {
	return &Elements{
		Layer: f.Layer, Params: []*nn.Var{f.A, f.B},
		Change: func(v []float32, row, col int) { f.change(v, row, col, one, scale) },
		Matrix: func(dst kernels.Mat, w *nn.Weight) { f.matrix(dst, w, scale) },
		Grad:   func(t *nn.Tape, w *nn.Weight, x, dy kernels.Mat) { f.grad(t, w, x, dy, scale) },
		Dense: func(t *nn.Tape) *nn.Var {
			w := f.Layer.W.P.V
			if f.Layer.W.Transposed {
				w = nn.Transpose(t, w)
			}
			return nn.Scale(t, nn.Mul(t, w, nn.MatMul(t, f.B, f.A)), scale)
		},
	}
}

// matrix writes scale * W * (B A).
func (f *Times) matrix(dst kernels.Mat, w *nn.Weight, scale float32) {
	if scale == 0 { // Gemm takes 0 for 1
		clear(dst.Data)
		return
	}
	kernels.Gemm(dst, false, kernels.Term{A: f.B.Mat(), B: f.A.Mat(), Scale: scale})
	kernels.Parallel(dst.Rows, 16, func(lo, hi int) {
		row := make([]float32, dst.Cols)
		for i := lo; i < hi; i++ {
			w.Row(row, i)
			kernels.Mul(dst.Row(i), dst.Row(i), row)
		}
	})
}

// change multiplies elements col to col+len(v) of a stored row by one plus scale
// times those of B A.
func (f *Times) change(v []float32, row, col int, one, scale float32) {
	const part = 256
	var room [part]float32
	a, b := f.A.Mat(), f.B.Mat()
	var column []float32
	if f.Layer.W.Transposed { // the row is an input
		column = make([]float32, a.Rows)
		for r := range column {
			column[r] = a.Row(r)[row]
		}
	}
	for ; len(v) > 0; col += part {
		n := min(part, len(v))
		f := room[:n]
		if column != nil {
			for i := range f {
				f[i] = one + scale*kernels.Dot(b.Row(col+i), column)
			}
		} else {
			for i := range f {
				f[i] = one
			}
			for r, x := range b.Row(row) {
				kernels.Axpy(scale*x, a.Row(r)[col:col+n], f)
			}
		}
		kernels.Mul(v[:n], v[:n], f)
		v = v[n:]
	}
}

// grad adds the gradients of A and B: with G = dyᵀ x * W they are Bᵀ G and G Aᵀ.
func (f *Times) grad(t *nn.Tape, w *nn.Weight, x, dy kernels.Mat, scale float32) {
	const band = 512 // rows of the dense gradient at a time
	da, accA := t.Grad(f.A)
	db, accB := t.Grad(f.B)
	if scale == 0 { // Gemm takes 0 for 1
		for _, g := range []struct {
			m   kernels.Mat
			acc bool
		}{{da, accA}, {db, accB}} {
			if !g.acc {
				clear(g.m.Data[:g.m.Rows*g.m.Cols])
			}
		}
		return
	}
	a, b := f.A.Mat(), f.B.Mat()
	left, right := dy, x // rows of the stored matrix come from left
	if w.Transposed {
		left, right = x, dy
	}
	for p0 := 0; p0 < left.Cols; p0 += band {
		p1 := min(p0+band, left.Cols)
		g := t.New(p1-p0, right.Cols)
		gm := g.Mat()
		kernels.Gemm(gm, false, kernels.Term{A: columns(left, p0, p1), TransA: true, B: right})
		kernels.Parallel(gm.Rows, 8, func(lo, hi int) {
			row := make([]float32, gm.Cols)
			for i := lo; i < hi; i++ {
				w.Row(row, p0+i)
				kernels.Mul(gm.Row(i), gm.Row(i), row)
			}
		})
		if w.Transposed {
			kernels.Gemm(columns(da, p0, p1), accA, kernels.Term{A: b, TransA: true, B: gm, TransB: true, Scale: scale})
			kernels.Gemm(db, accB || p0 > 0, kernels.Term{A: gm, TransA: true, B: columns(a, p0, p1), TransB: true, Scale: scale})
		} else {
			kernels.Gemm(db.RowsOf(p0, p1), accB, kernels.Term{A: gm, B: a, TransB: true, Scale: scale})
			kernels.Gemm(da, accA || p0 > 0, kernels.Term{A: b.RowsOf(p0, p1), TransA: true, B: gm, Scale: scale})
		}
		t.Discard(g)
	}
}

// columns views columns c0 to c1 of m.
func columns(m kernels.Mat, c0, c1 int) kernels.Mat {
	return kernels.Mat{Data: m.Data[min(c0, len(m.Data)):], Rows: m.Rows, Cols: c1 - c0, Stride: m.Stride}
}

// MergeRows multiplies rows r0 to r1 of the weight, given as w.
func (f *Times) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	Multiply(w, f.B.Mat().RowsOf(r0, r1), f.A.Mat(), false, scale)
}

// Multiply multiplies w by one plus scale times a·b, or aᵀ·bᵀ, element by element.
func Multiply(w, a, b kernels.Mat, trans bool, scale float32) {
	f := kernels.NewMat(w.Rows, w.Cols)
	kernels.Gemm(f, false, kernels.Term{A: a, TransA: trans, B: b, TransB: trans})
	for r := range w.Rows {
		row := w.Row(r)
		for i, x := range f.Row(r) {
			row[i] += row[i] * (scale * x)
		}
	}
}
