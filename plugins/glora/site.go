package glora

import (
	"math"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

type site struct {
	cfg           *config
	layer         *nn.LinearLayer
	out           int
	a, b, c, d, e part

	decoded sync.Once
	frozen  *nn.Var // the bias
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	for _, p := range []part{s.a, s.b, s.c, s.d, s.e} {
		p.init(rng, s.cfg.Init)
	}
	return nil
}

// init draws as PEFT does: products and vectors uniform by the length of a row, a
// number normal.
func (p part) init(rng *rand.Rand, still bool) {
	draw := func(q *nn.Param) {
		tuner.Uniform(q.V.Data, 1/math.Sqrt(float64(q.V.Cols)), rng.Float64)
	}
	if p.form == lora {
		draw(p.y)
	}
	switch {
	case still || p.form == none:
	case p.form == constant:
		tuner.Normal(p.x.V.Data, 0.02, rng.NormFloat64)
	default:
		draw(p.x)
	}
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	shift := func(t *nn.Tape, x *nn.Var) nn.LowRank { return s.shift(t, x, scale) }
	if s.a.form != vector && s.a.form != constant {
		if s.a.form == lora {
			s.layer.AddLowRank(func(*nn.Tape, *nn.Var) nn.LowRank {
				return nn.LowRank{A: s.b.y.V, B: s.b.x.V, Scale: scale}
			})
		}
		if s.layer.Bias != nil {
			s.layer.AddLowRank(shift)
		}
		if s.a.form == lora {
			s.factor().Elements(1, scale).Attach()
		}
		return nil
	}
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		scaled := nn.MulRow(t, next(t, x), nn.AddConst(t, nn.Scale(t, s.a.row(t, s.out), scale), 1))
		// Each row of B is one number: what it adds is that times the sum of the inputs.
		terms := []nn.LowRank{{A: ones(1, x.Cols), B: nn.View(t, s.b.row(t, s.out), s.out, 1), Scale: scale}}
		if s.layer.Bias != nil {
			terms = append(terms, shift(t, x))
		}
		y := nn.Add(t, scaled, nn.LinearOp(t, x, nil, nil, terms...))
		t.Discard(scaled)
		return y
	})
	return nil
}

// factor is A as a product.
func (s *site) factor() *tuner.Times {
	return &tuner.Times{Layer: s.layer, A: s.a.y.V, B: s.a.x.V}
}

// row is a vector, or a number repeated, as [1, n].
func (p part) row(t *nn.Tape, n int) *nn.Var {
	if p.form == constant {
		return nn.ScaleBy(t, ones(1, n), nn.View(t, p.x.V, 1, 1))
	}
	return nn.View(t, p.x.V, 1, n)
}

// shift is what is added to every output beside the bias, as a product with a column of
// ones: one more step of the layer's own product. Where A has scaled the outputs it has
// scaled their bias too, which is taken back.
func (s *site) shift(t *nn.Tape, x *nn.Var, scale float32) nn.LowRank {
	var sum, factor *nn.Var
	if s.d.form != none {
		sum, factor = s.e.row(t, s.out), s.d.row(t, s.out)
	}
	if s.a.form == vector || s.a.form == constant {
		a := s.a.row(t, s.out)
		if factor == nil {
			factor = nn.Scale(t, a, -1)
		} else {
			factor = nn.Minus(t, factor, a)
		}
	}
	if factor != nil {
		sum = plus(t, sum, nn.Mul(t, s.bias(t), factor))
	}
	if s.c.form != none {
		sum = plus(t, sum, nn.LinearOp(t, s.column(t), s.layer.W, nil))
	}
	if sum == nil {
		return nn.LowRank{}
	}
	return nn.LowRank{X: ones(x.Rows, 1), B: nn.View(t, sum, s.out, 1), Scale: scale}
}

func plus(t *nn.Tape, a, b *nn.Var) *nn.Var {
	if a == nil {
		return b
	}
	return nn.Sum(t, a, b)
}

// column is C, as a row.
func (s *site) column(t *nn.Tape) *nn.Var {
	if s.c.form == lora {
		return nn.MatMulT(t, nn.View(t, s.c.y.V, 1, s.cfg.R), s.c.x.V)
	}
	return nn.View(t, s.c.x.V, 1, s.layer.W.In)
}

// bias is the layer's as a row, which may be trained too.
func (s *site) bias(t *nn.Tape) *nn.Var {
	b := s.layer.Bias
	if b.P != nil {
		return nn.View(t, b.P.V, 1, s.out)
	}
	s.decoded.Do(func() { s.frozen = tuner.Constant(vectorOf(b, s.out), 1, s.out) })
	return s.frozen
}

// vectorOf decodes a bias.
func vectorOf(b *nn.Weight, n int) []float32 {
	v := make([]float32, n)
	b.Row(v, 0)
	return v
}

// ones is a matrix of ones.
func ones(rows, cols int) *nn.Var {
	v := tuner.Constant(make([]float32, rows*cols), rows, cols)
	for i := range v.Data {
		v.Data[i] = 1
	}
	return v
}
