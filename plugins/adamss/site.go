package adamss

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// factors returns the change of the weight and the bias as factors: A [ranks, in (+1)]
// and B [out, ranks], whose rows are zero but for the columns of their cluster.
func (s *site) factors(t *nn.Tape) (a, b *nn.Var) {
	var as, bs []*nn.Var
	var places []int32
	ranks, at := 0, 0
	for _, p := range s.a {
		ranks += p.V.Rows
	}
	for i, p := range s.a {
		as, bs = append(as, p.V), append(bs, nn.View(t, s.b[i].V, 1, s.b[i].V.Rows*s.b[i].V.Cols))
		for _, r := range s.rows[i] {
			for c := range p.V.Rows {
				places = append(places, r*int32(ranks)+int32(at+c))
			}
		}
		at += p.V.Rows
	}
	return nn.MatMul(t, nn.Concat(t, as...), s.base.V), nn.Scatter(t, nn.ConcatCols(t, bs...), places, s.out, ranks)
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	if s.layer.Bias == nil {
		s.layer.AddLowRank(func(t *nn.Tape, _ *nn.Var) nn.LowRank {
			a, b := s.factors(t)
			return nn.LowRank{A: a, B: b, Scale: scale}
		})
		return nil
	}
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		a, b := s.factors(t)
		y := nn.Add(t, next(t, x), nn.LinearOp(t, x, nil, nil, nn.LowRank{A: nn.Columns(t, a, 0, s.in), B: b, Scale: scale}))
		shift := nn.MatMul(t, b, nn.Columns(t, a, s.in, s.in+1))
		return nn.AddRow(t, y, nn.Scale(t, nn.View(t, shift, 1, s.out), scale))
	})
	return nil
}

func (s *site) fixed() (a, b kernels.Mat) {
	f := s.merged.Of(func(t *nn.Tape) []*nn.Var {
		a, b := s.factors(t)
		return []*nn.Var{a, b}
	})
	return f[0].Mat(), f[1].Mat()
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	a, b := s.fixed()
	a.Cols = s.in
	tuner.AddProduct(w, b.RowsOf(r0, r1), a, scale)
}

// MergeBias implements tuner.BiasMerging.
func (s *site) MergeBias(bias []float32, scale float32) {
	a, b := s.fixed()
	for r := range bias {
		sum := float32(0)
		for k, v := range b.Row(r) {
			sum += v * a.Row(k)[s.in]
		}
		bias[r] += scale * sum
	}
}

// NeedsBias implements tuner.BiasMerging.
func (s *site) NeedsBias() bool { return false }
