package nn

import "github.com/peftkit/peftkit/kernels"

// SwiGLU returns silu(gate) * up, silu(g) = g/(1+exp(-g)) (Shazeer 2020).
func SwiGLU(t *Tape, gate, up *Var) *Var {
	out := t.New(gate.Rows, gate.Cols)
	out.Needs = gate.Needs || up.Needs
	apply := func(dst kernels.Mat) {
		g, u := gate.Mat().Data, up.Mat().Data
		kernels.Parallel(len(dst.Data), grain, func(lo, hi int) {
			kernels.SwiGLU(dst.Data[lo:hi], g[lo:hi], u[lo:hi])
		})
	}
	apply(out.Mat())
	t.Recomputable(out, apply, gate, up)
	t.record(out, func() {
		g, u := gate.Mat().Data, up.Mat().Data
		n := len(g)
		// One of the two may want no gradient: its share goes to scratch.
		buffer := func(v *Var) ([]float32, block, bool) {
			if v.Needs {
				m, acc := t.Grad(v)
				return m.Data, block{}, acc
			}
			m, b := t.scratch(v.Rows, v.Cols)
			return m.Data, b, false
		}
		dg, bg, accG := buffer(gate)
		du, bu, accU := buffer(up)
		kernels.Parallel(n, grain, func(lo, hi int) {
			if !accG {
				clear(dg[lo:hi])
			}
			if !accU {
				clear(du[lo:hi])
			}
			kernels.SwiGLUBackward(dg[lo:hi], du[lo:hi], out.Grad[lo:hi], g[lo:hi], u[lo:hi])
		})
		t.mem.release(bg)
		t.mem.release(bu)
	}, gate, up)
	return out
}
