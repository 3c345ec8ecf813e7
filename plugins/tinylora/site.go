package tinylora

import (
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site adds B R A to a weight, R the sum of the matrices of p weighted by v.
type site struct {
	cfg         *config
	at          *tuner.Place
	index, rank int
	a, b, p     *nn.Param // [rank, in], [out, rank], [u, rank, rank]
	v           *nn.Param // [u], of several modules

	merged tuner.Fixed // R A
}

// Check implements tuner.Checker.
func (s *site) Check() error { return nil }

// Init implements tuner.Site: A and B are the first singular vectors of the
// weight, each times the root of its value.
func (s *site) Init(*rand.Rand) error {
	s.draw()
	w := s.at.Weight()
	u, sigma, vt, err := linalg.TruncatedSVD(w.Data, w.Rows, w.Cols, s.rank)
	if err != nil {
		return err
	}
	copy(s.a.V.Data, vt)
	copy(s.b.V.Data, u)
	for k, x := range sigma {
		root := float32(math.Sqrt(float64(x)))
		kernels.Scale(s.a.V.Mat().Row(k), root)
		for o := range s.at.Out {
			s.b.V.Data[o*s.rank+k] *= root
		}
	}
	return nil
}

// matrix is R, [rank, rank].
func (s *site) matrix(t *nn.Tape) *nn.Var {
	p := tuner.Constant(s.p.V.Data, s.cfg.U, s.rank*s.rank)
	return nn.View(t, nn.MatMul(t, s.v.V, p), s.rank, s.rank)
}

// Attach implements tuner.Site. A and B are constants: all gradients but the
// input's have the size of R.
func (s *site) Attach(scale float32) error {
	drop := float32(s.cfg.Dropout)
	if e := s.at.Mod.Embedding; e != nil {
		e.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
			z := nn.Dropout(t, nn.GatherRows(t, s.b.V, ids), drop)
			change := nn.MatMul(t, nn.MatMul(t, z, s.matrix(t)), s.a.V)
			return nn.Add(t, next(t, ids), nn.Scale(t, change, scale))
		})
		return nil
	}
	s.at.Mod.Linear.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		z := nn.MatMulT(t, nn.Dropout(t, x, drop), s.a.V)
		return nn.LowRank{X: z, A: s.matrix(t), B: s.b.V, Scale: scale}
	})
	return nil
}

// MergeRows implements tuner.RowMerging, for both kinds of module.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	ra := s.merged.Of(func(t *nn.Tape) []*nn.Var { return []*nn.Var{nn.MatMul(t, s.matrix(t), s.a.V)} })[0]
	tuner.AddProduct(w, s.b.V.Mat().RowsOf(r0, r1), ra.Mat(), scale)
}
