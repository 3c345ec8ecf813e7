package psoft

import (
	"math"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site adds B (R - I) A to a weight.
type site struct {
	cfg        *config
	at         *tuner.Place
	r          *nn.Param // of the rotation, [r(r-1)/2], or [r, r]
	rows, cols *nn.Param // scales of R, nil without
	a, b       *nn.Var   // constants, [r, in] and [out, r]

	merged tuner.Fixed // (R - I) A
}

func (s *site) scale() float32 { return float32(s.cfg.Alpha / float64(s.cfg.R)) }

// decompose sets A and B.
func (s *site) decompose() error {
	w, r := s.at.Weight(), s.cfg.R
	u, sigma, vt, err := linalg.TorchSVD(w.Data, w.Rows, w.Cols, r)
	if err != nil {
		return err
	}
	s.a, s.b = tuner.Constant(vt, r, s.at.In), tuner.Constant(u, s.at.Out, r)
	for k, v := range sigma {
		v /= s.scale()
		if s.cfg.Factors == pissaInit {
			v = float32(math.Sqrt(float64(v)))
			kernels.Scale(s.a.Mat().Row(k), v)
		}
		for o := range s.at.Out {
			u[o*r+k] *= v
		}
	}
	return nil
}

// change is R - I, [r, r].
func (s *site) change(t *nn.Tape) *nn.Var {
	m := s.r.V
	if s.cfg.Orth {
		m = s.rotation(t)
	}
	if s.rows != nil {
		m = nn.MulCol(t, m, s.rows.V)
	}
	if s.cols != nil {
		m = nn.MulRow(t, m, s.cols.V)
	}
	return tuner.PlusIdentity(t, m, -1)
}

// rotation is (I + Q)(I - Q)^-1, or the first terms of its series, of which PEFT
// counts the last power once; three terms and four are the same there.
func (s *site) rotation(t *nn.Tape) *nn.Var {
	if !s.cfg.Neumann {
		return tuner.Cayley(t, tuner.Skew(t, nn.Scale(t, s.r.V, -1), s.cfg.R), 1)
	}
	q := tuner.Skew(t, s.bounded(t), s.cfg.R)
	power := max(s.cfg.Terms-1, 3)
	if s.cfg.Terms == 2 {
		return tuner.PlusIdentity(t, nn.Scale(t, q, 2), 1)
	}
	// Horner's rule: ((Q + 2 I) Q + 2 I) Q + I.
	sum := q
	for i := power - 1; i > 0; i-- {
		sum = nn.MatMul(t, tuner.PlusIdentity(t, sum, 2), q)
	}
	return tuner.PlusIdentity(t, sum, 1)
}

// bounded shrinks the elements of Q where its norm exceeds cayley_neumann_eps; the
// gradient knows.
func (s *site) bounded(t *nn.Tape) *nn.Var {
	w := s.r.V
	if s.cfg.Eps == nil {
		return w
	}
	sum := 0.0
	for _, x := range w.Data {
		sum += 2 * float64(x) * float64(x) // each element lies in Q twice
	}
	norm := math.Sqrt(sum)
	if !(norm > *s.cfg.Eps) || math.IsInf(norm, 0) {
		return w
	}
	bound := tuner.Constant([]float32{float32(*s.cfg.Eps / math.Sqrt2)}, 1, 1)
	return nn.ScaleBy(t, w, nn.Div(t, bound, nn.RowNorm(t, w, 0)))
}

// Attach implements tuner.Site. A and B are constants: all gradients but the
// input's have the size of R.
func (s *site) Attach(scale float32) error {
	s.at.Mod.Linear.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		z := nn.MatMulT(t, nn.Dropout(t, x, float32(s.cfg.Dropout)), s.a)
		return nn.LowRank{X: z, A: s.change(t), B: s.b, Scale: scale * s.scale()}
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	ra := s.merged.Of(func(t *nn.Tape) []*nn.Var { return []*nn.Var{nn.MatMul(t, s.change(t), s.a)} })[0]
	tuner.AddProduct(w, s.b.Mat().RowsOf(r0, r1), ra.Mat(), scale*s.scale())
}
