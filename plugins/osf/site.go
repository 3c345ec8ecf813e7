package osf

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Attach implements tuner.Site. The rank is large: for many rows the change is made as a
// matrix, which is added to the weight, for few as a product of thin ones.
func (s *site) Attach(scale float32) error {
	r, in, out := s.u.V.Cols, s.place.In, s.place.Out
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		us := nn.MulRow(t, apart(t, s.u.V, s.highU, true), nn.View(t, s.s.V, 1, r))
		v := apart(t, s.v.V, s.highV, false)
		if x.Rows*2*(in+out) < in*out {
			return nn.LowRank{A: nn.Concat(t, v, s.lowV), B: nn.ConcatCols(t, us, nn.Scale(t, s.lowU, -1)), Scale: scale}
		}
		return nn.LowRank{B: nn.Minus(t, nn.MatMul(t, us, v), nn.MatMul(t, s.lowU, s.lowV)), Scale: scale}
	})
	return nil
}

// apart returns p, whose gradient keeps only what is at right angles to the directions in
// the columns (or rows) of high: what PEFT does by hooks.
func apart(t *nn.Tape, p *nn.Var, high kernels.Mat, columns bool) *nn.Var {
	out := t.New(p.Rows, p.Cols)
	out.Needs = p.Needs
	copy(out.Data, p.Mat().Data)
	t.Record(out, func() {
		g := kernels.MatOf(out.Grad, out.Rows, out.Cols)
		m, acc := t.Grad(p)
		if acc {
			kernels.Add(m.Data, m.Data, g.Data)
		} else {
			copy(m.Data, g.Data)
		}
		if columns {
			along := kernels.NewMat(high.Cols, g.Cols)
			kernels.Gemm(along, false, kernels.Term{A: high, TransA: true, B: g})
			kernels.Gemm(m, true, kernels.Term{A: high, B: along, Scale: -1})
		} else {
			along := kernels.NewMat(g.Rows, high.Rows)
			kernels.Gemm(along, false, kernels.Term{A: g, B: high, TransB: true})
			kernels.Gemm(m, true, kernels.Term{A: along, B: high, Scale: -1})
		}
	})
	return out
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	us := kernels.NewMat(r1-r0, s.u.V.Cols)
	for i := range us.Rows {
		kernels.Mul(us.Row(i), s.u.V.Mat().Row(r0+i), s.s.V.Data)
	}
	tuner.AddProduct(w, us, s.v.V.Mat(), scale)
	tuner.AddProduct(w, s.lowU.Mat().RowsOf(r0, r1), s.lowV.Mat(), -scale)
}
