package hira

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	one := float32(1)
	if s.cfg.Dropout > 0 {
		one = 0 // the change is a product of its own
	}
	e := &tuner.Elements{
		Layer: s.layer, Params: []*nn.Var{s.a.V, s.b.V},
		Change: func(v []float32, row, col int) { s.times(v, row, col, one, scale) },
		Matrix: func(dst kernels.Mat, w *nn.Weight) { s.matrix(dst, w, scale) },
		Grad:   func(t *nn.Tape, w *nn.Weight, x, dy kernels.Mat) { s.grad(t, w, x, dy, scale) },
		Dense: func(t *nn.Tape) *nn.Var {
			w := s.layer.W.P.V
			if s.layer.W.Transposed {
				w = nn.Transpose(t, w)
			}
			return nn.Scale(t, nn.Mul(t, w, nn.MatMul(t, s.b.V, s.a.V)), scale)
		},
	}
	if p := float32(s.cfg.Dropout); p > 0 {
		e.AttachBeside(func(t *nn.Tape, x *nn.Var) *nn.Var { return nn.Dropout(t, x, p) })
	} else {
		e.Attach()
	}
	return nil
}

// matrix writes scale * W * (B A).
func (s *site) matrix(dst kernels.Mat, w *nn.Weight, scale float32) {
	if scale == 0 { // Gemm takes 0 for 1
		clear(dst.Data)
		return
	}
	kernels.Gemm(dst, false, kernels.Term{A: s.b.V.Mat(), B: s.a.V.Mat(), Scale: scale})
	kernels.Parallel(dst.Rows, 16, func(lo, hi int) {
		row := make([]float32, dst.Cols)
		for i := lo; i < hi; i++ {
			w.Row(row, i)
			kernels.Mul(dst.Row(i), dst.Row(i), row)
		}
	})
}

// times multiplies elements col to col+len(v) of a stored row by one plus scale
// times those of B A.
func (s *site) times(v []float32, row, col int, one, scale float32) {
	const part = 256
	var room [part]float32
	a, b := s.a.V.Mat(), s.b.V.Mat()
	var column []float32
	if s.layer.W.Transposed { // the row is an input
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
func (s *site) grad(t *nn.Tape, w *nn.Weight, x, dy kernels.Mat, scale float32) {
	const band = 512 // rows of the dense gradient at a time
	da, accA := t.Grad(s.a.V)
	db, accB := t.Grad(s.b.V)
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
	a, b := s.a.V.Mat(), s.b.V.Mat()
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

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	multiply(w, s.b.V.Mat().RowsOf(r0, r1), s.a.V.Mat(), false, scale)
}

// multiply multiplies w by one plus scale times a·b, or aᵀ·bᵀ.
func multiply(w, a, b kernels.Mat, trans bool, scale float32) {
	f := kernels.NewMat(w.Rows, w.Cols)
	kernels.Gemm(f, false, kernels.Term{A: a, TransA: trans, B: b, TransB: trans})
	for r := range w.Rows {
		row := w.Row(r)
		for i, x := range f.Row(r) {
			row[i] += row[i] * (scale * x)
		}
	}
}

// Attach implements tuner.Site.
func (s *embedding) Attach(scale float32) error {
	s.layer.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		y := next(t, ids)
		factor := nn.MatMulT(t, nn.GatherCols(t, s.a.V, ids, -1), s.b.V) // PEFT's HiRA has no padding here
		return nn.Sum(t, y, nn.Scale(t, nn.Mul(t, y, factor), scale))
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *embedding) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	multiply(w, columns(s.a.V.Mat(), r0, r1), s.b.V.Mat(), true, scale)
}
