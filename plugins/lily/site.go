package lily

import (
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site adds x·Aᵀ·M, where M is the sum of the second factors, each times the mean
// over the rows of what the router gives it.
type site struct {
	cfg    *config
	layer  *nn.LinearLayer
	out    int
	a      *nn.Param // [r, in]
	b      *nn.Param // [num_B*r, out]
	router *nn.Param // [num_B, r]

	firstA, firstB bool // the first of those that share it
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	draw := func(p *nn.Param) {
		tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64)
	}
	draw(s.router)
	if s.firstA {
		draw(s.a)
	}
	if s.firstB && !s.cfg.Init {
		draw(s.b)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	scale *= float32(s.cfg.Scaling)
	n, r := s.cfg.Count, s.cfg.R
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		h := nn.MatMulT(t, x, s.a.V)
		shares := nn.SoftmaxRows(t, nn.MatMulT(t, h, s.router.V))
		share := nn.MeanRows(t, shares, []nn.Span{{Start: 0, End: x.Rows}})
		mixed := nn.MatMul(t, share, nn.View(t, s.b.V, n, r*s.out))
		return nn.LowRank{X: h, B: nn.Transpose(t, nn.View(t, mixed, r, s.out)), Scale: scale}
	})
	return nil
}
