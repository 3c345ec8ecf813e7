package gralora

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// columns views columns c0 to c1 of m.
func columns(m kernels.Mat, c0, c1 int) kernels.Mat {
	return kernels.Mat{Data: m.Data[min(c0, len(m.Data)):], Rows: m.Rows, Cols: c1 - c0, Stride: m.Stride}
}

// blockwise multiplies each of the k blocks of columns of x by its own matrix,
// which lie one below the other in w: [rows, k*p] and [k*p, q] give [rows, k*q].
func blockwise(t *nn.Tape, x, w *nn.Var, k int) *nn.Var {
	p, q := x.Cols/k, w.Cols
	out := t.New(x.Rows, k*q)
	out.Needs = x.Needs || w.Needs
	xm, wm, o := x.Mat(), w.Mat(), out.Mat()
	for i := range k {
		kernels.Gemm(columns(o, i*q, (i+1)*q), false, kernels.Term{A: columns(xm, i*p, (i+1)*p), B: wm.RowsOf(i*p, (i+1)*p)})
	}
	var saved []*nn.Var
	if x.Needs {
		saved = append(saved, w)
	}
	if w.Needs {
		saved = append(saved, x)
	}
	t.Record(out, func() {
		dy := kernels.MatOf(out.Grad, out.Rows, out.Cols)
		if x.Needs {
			m, acc := t.Grad(x)
			for i := range k {
				kernels.Gemm(columns(m, i*p, (i+1)*p), acc, kernels.Term{A: columns(dy, i*q, (i+1)*q), B: w.Mat().RowsOf(i*p, (i+1)*p), TransB: true})
			}
		}
		if w.Needs {
			m, acc := t.Grad(w)
			for i := range k {
				kernels.Gemm(m.RowsOf(i*p, (i+1)*p), acc, kernels.Term{A: columns(x.Mat(), i*p, (i+1)*p), TransA: true, B: columns(dy, i*q, (i+1)*q)})
			}
		}
	}, saved...)
	return out
}
