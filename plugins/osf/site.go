package osf

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site adds U S V less what it was at first to a weight.
type site struct {
	cfg     *config
	at      *tuner.Place
	layer   *nn.LinearLayer
	rank    int
	u, s, v *nn.Param // [out, r], [r] and [r, in]
	was     *parts
}

// Attach implements tuner.Site. The change has a rank of up to that of the weight: on
// many rows it is cheaper to make it as a matrix, which is added as the weight is packed.
func (s *site) Attach(scale float32) error {
	if err := s.cfg.decompose(); err != nil {
		return err
	}
	if s.rank == 0 {
		return nil
	}
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		u, v := projected(t, s.u.V, s.was.left), projected(t, s.v.V, s.was.right)
		if s.dense(t, x.Rows) {
			return s.matrix(t, x, nn.MulRow(t, u, s.s.V), v, scale)
		}
		return nn.LowRank{X: nn.MulRow(t, nn.MatMulT(t, x, v), s.s.V), B: u, Scale: scale}
	})
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		if s.dense(t, x.Rows) {
			return nn.LowRank{} // it is in the matrix
		}
		return nn.LowRank{X: nn.MulRow(t, nn.MatMulT(t, x, s.was.v), s.was.s), B: s.was.u, Scale: -scale}
	})
	return nil
}

// projected gives p as it is, and p the projection of the gradient of that.
func projected(t *nn.Tape, p *nn.Var, by projection) *nn.Var {
	if !p.Needs || !t.Train {
		return p
	}
	v := &nn.Var{Rows: p.Rows, Cols: p.Cols, Data: p.Data}
	t.Watch(v, func(g kernels.Mat) {
		dst, acc := t.Grad(p)
		by.add(t, dst, acc, g)
	})
	return v
}

// mulRow multiplies the columns of m.
func mulRow(dst, m kernels.Mat, by []float32) {
	kernels.Parallel(m.Rows, 64, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			kernels.Mul(dst.Row(r), m.Row(r), by)
		}
	})
}

// dense says whether the change as a matrix costs less, forward and backward.
func (s *site) dense(t *nn.Tape, rows int) bool {
	if !t.Train || s.layer.W.Frozen == nil {
		return false
	}
	n, r, out, in := float64(rows), float64(s.rank), float64(s.at.Out), float64(s.at.In)
	return out*in*(n+6*r) < 5*n*r*(out+in)
}

// matrix is us·v less what that was at first, as a matrix. It is made for the product
// and again in backward; its gradient is made and used in bands.
func (s *site) matrix(t *nn.Tape, x, us, v *nn.Var, scale float32) nn.LowRank {
	d := t.Later(s.at.Out, s.at.In, func(dst kernels.Mat) {
		first := t.New(s.at.Out, s.rank)
		mulRow(first.Mat(), s.was.u.Mat(), s.was.s.Data)
		kernels.Gemm(dst, false, kernels.Term{A: us.Mat(), B: v.Mat()}, kernels.Term{A: first.Mat(), B: s.was.v.Mat(), Scale: -1})
		t.Discard(first, us)
	}, us)
	t.Discard(us)
	low := nn.LowRank{B: d, Scale: scale}
	if us.Needs || v.Needs {
		low.Reads = []*nn.Var{x, us}
		low.Grad = func(dy kernels.Mat, r0, r1 int) { grad(t, us, v, x.Mat().RowsOf(r0, r1), dy, scale) }
	}
	return low
}

// grad adds the gradients of us and v: with G = dyᵀ x they are G vᵀ and usᵀ G.
func grad(t *nn.Tape, us, v *nn.Var, x, dy kernels.Mat, scale float32) {
	const band = 512 // rows of G at a time
	if scale == 0 {  // Gemm takes 0 for 1
		return
	}
	var du, dv kernels.Mat
	var accU, accV bool
	if us.Needs {
		du, accU = t.Grad(us)
	}
	if v.Needs {
		dv, accV = t.Grad(v)
	}
	for p0 := 0; p0 < dy.Cols; p0 += band {
		p1 := min(p0+band, dy.Cols)
		g := t.New(p1-p0, x.Cols)
		left := kernels.Mat{Data: dy.Data[min(p0, len(dy.Data)):], Rows: dy.Rows, Cols: p1 - p0, Stride: dy.Stride}
		kernels.Gemm(g.Mat(), false, kernels.Term{A: left, TransA: true, B: x, Scale: scale})
		if us.Needs {
			kernels.Gemm(du.RowsOf(p0, p1), accU, kernels.Term{A: g.Mat(), B: v.Mat(), TransB: true})
		}
		if v.Needs {
			kernels.Gemm(dv, accV || p0 > 0, kernels.Term{A: us.Mat().RowsOf(p0, p1), TransA: true, B: g.Mat()})
		}
		t.Discard(g)
	}
}

// Merge implements tuner.Merging. The whole weight is asked for, as it is decomposed
// first; nothing is kept.
func (s *site) Merge(w kernels.Mat, scale float32) {
	if s.rank == 0 {
		return
	}
	was, err := split(s.at, s.rank)
	if err != nil { // finite weights that do not converge: a result that is seen to be none
		for r := range w.Rows {
			for i := range w.Cols {
				w.Row(r)[i] = float32(math.NaN())
			}
		}
		return
	}
	us := kernels.NewMat(s.at.Out, s.rank)
	mulRow(us, s.u.V.Mat(), s.s.V.Data)
	tuner.AddProduct(w, us, s.v.V.Mat(), scale)
	mulRow(us, was.u.Mat(), was.s.Data)
	tuner.AddProduct(w, us, was.v.Mat(), -scale)
}
