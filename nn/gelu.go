package nn

import "github.com/peftkit/peftkit/kernels"

// GEGLU returns gelu(gate) * up with the tanh approximation of GELU (Shazeer
// 2020): the feed-forward layer of Gemma and of T5 1.1. The output can be
// recomputed.
func GEGLU(t *Tape, gate, up *Var) *Var {
	sameShape("GEGLU", gate, up)
	out := t.New(gate.Rows, gate.Cols)
	out.Needs = gate.Needs || up.Needs
	apply := func(dst kernels.Mat) {
		g, u := gate.Mat().Data, up.Mat().Data
		each(len(g), func(lo, hi int, s []float32) {
			kernels.GELUTanh(s, g[lo:hi])
			kernels.Mul(dst.Data[lo:hi], s, u[lo:hi])
		})
	}
	apply(out.Mat())
	t.Recomputable(out, apply, gate, up)
	t.record(out, func() {
		g, u, dy := gate.Mat().Data, up.Mat().Data, out.Grad
		if gate.Needs {
			m, acc := t.Grad(gate)
			each(len(g), func(lo, hi int, s []float32) {
				kernels.GELUTanhSlope(s, g[lo:hi])
				kernels.Mul(s, s, u[lo:hi])
				mulInto(m.Data[lo:hi], s, dy[lo:hi], acc)
			})
		}
		if up.Needs {
			m, acc := t.Grad(up)
			each(len(g), func(lo, hi int, s []float32) {
				kernels.GELUTanh(s, g[lo:hi])
				mulInto(m.Data[lo:hi], s, dy[lo:hi], acc)
			})
		}
	}, gate, up)
	return out
}

// Gated returns f(gate) * up.
func Gated(t *Tape, f Activation, gate, up *Var) *Var {
	switch f.Name {
	case SiLU.Name:
		return SwiGLU(t, gate, up)
	case GELUTanh.Name:
		return GEGLU(t, gate, up)
	}
	a := Apply(t, gate, f)
	out := Mul(t, a, up)
	t.Discard(a)
	return out
}
