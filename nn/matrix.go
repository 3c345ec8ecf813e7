package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// MatMul returns the product a·b of [m,k] and [k,n].
func MatMul(t *Tape, a, b *Var) *Var { return matMul(t, a, b, false) }

// MatMulT returns the product a·bᵀ of [m,k] and [n,k].
func MatMulT(t *Tape, a, b *Var) *Var { return matMul(t, a, b, true) }

func matMul(t *Tape, a, b *Var, trans bool) *Var {
	n := b.Cols
	if trans {
		n = b.Rows
	}
	out := t.New(a.Rows, n)
	out.Needs = a.Needs || b.Needs
	kernels.Gemm(out.Mat(), false, kernels.Term{A: a.Mat(), B: b.Mat(), TransB: trans})
	t.record(out, func() {
		dy := out.gradMat()
		if a.Needs {
			m, acc := t.Grad(a)
			kernels.Gemm(m, acc, kernels.Term{A: dy, B: b.Mat(), TransB: !trans})
		}
		if b.Needs {
			term := kernels.Term{A: a.Mat(), TransA: true, B: dy}
			if trans {
				term = kernels.Term{A: dy, TransA: true, B: a.Mat()}
			}
			m, acc := t.Grad(b)
			kernels.Gemm(m, acc, term)
		}
	}, partners(a, b)...)
	return out
}

// partners returns what the gradients of a product of a and b read: of each that
// needs one the other.
func partners(a, b *Var) []*Var {
	var saved []*Var
	if a.Needs {
		saved = append(saved, b)
	}
	if b.Needs {
		saved = append(saved, a)
	}
	return saved
}

// Mul returns a * b, element by element.
func Mul(t *Tape, a, b *Var) *Var {
	sameShape("product", a, b)
	out := t.New(a.Rows, a.Cols)
	out.Needs = a.Needs || b.Needs
	mulParallel(out.Data, a.Mat().Data, b.Mat().Data, false)
	t.record(out, func() {
		if a.Needs {
			m, acc := t.Grad(a)
			mulParallel(m.Data, out.Grad, b.Mat().Data, acc)
		}
		if b.Needs {
			m, acc := t.Grad(b)
			mulParallel(m.Data, out.Grad, a.Mat().Data, acc)
		}
	}, partners(a, b)...)
	return out
}

func mulParallel(dst, a, b []float32, acc bool) {
	kernels.Parallel(len(dst), grain, func(lo, hi int) {
		if !acc {
			kernels.Mul(dst[lo:hi], a[lo:hi], b[lo:hi])
			return
		}
		kernels.MulAdd(dst[lo:hi], a[lo:hi], b[lo:hi])
	})
}

// Concat returns the rows of all parts, one part below the other.
func Concat(t *Tape, parts ...*Var) *Var {
	if len(parts) == 0 {
		panic("nn: Concat of nothing")
	}
	rows := 0
	for _, p := range parts {
		if p.Cols != parts[0].Cols {
			panic(fmt.Sprintf("nn: Concat of rows of %d and %d elements", parts[0].Cols, p.Cols))
		}
		rows += p.Rows
	}
	out := t.New(rows, parts[0].Cols)
	at := 0
	for _, p := range parts {
		out.Needs = out.Needs || p.Needs
		at += copy(out.Data[at:], p.Mat().Data)
	}
	t.record(out, func() {
		at := 0
		for _, p := range parts {
			n := p.Rows * p.Cols
			if p.Needs {
				g := out.Grad[at : at+n]
				if m, acc := t.Grad(p); acc {
					addParallel(m.Data, m.Data, g)
				} else {
					copy(m.Data, g)
				}
			}
			at += n
		}
	})
	return out
}

// Columns returns columns c0 to c1 of x: a part of a fused projection.
func Columns(t *Tape, x *Var, c0, c1 int) *Var {
	if c0 < 0 || c1 < c0 || c1 > x.Cols {
		panic(fmt.Sprintf("nn: Columns %d to %d of %d", c0, c1, x.Cols))
	}
	out := t.New(x.Rows, c1-c0)
	out.Needs = x.Needs
	xm, o := x.Mat(), out.Mat()
	eachRow(x.Rows, c1-c0, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			copy(o.Row(r), xm.Row(r)[c0:c1])
		}
	})
	t.record(out, func() {
		m, dy := t.zeroed(x), out.gradMat()
		eachRow(x.Rows, c1-c0, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				d := m.Row(r)[c0:c1]
				kernels.Add(d, d, dy.Row(r))
			}
		})
	})
	return out
}
