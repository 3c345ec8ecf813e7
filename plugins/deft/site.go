package deft

import (
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	tuner.Normal(s.p.V.Data, 0.02, rng.NormFloat64)
	switch {
	case s.r == nil:
	case !s.cfg.Init:
		tuner.Normal(s.r.V.Data, 0.02*s.cfg.InitScale, rng.NormFloat64)
	default: // what is put in is what is taken out
		t := nn.NewTape()
		defer t.Close()
		_, right := s.project(t)
		out := nn.LinearOp(t, nn.Transpose(t, right), tuner.Turned(s.layer.W), nil)
		copy(s.r.V.Data, out.Data)
		kernels.Scale(s.r.V.Data, 1/s.gain)
	}
	return nil
}

// Check implements tuner.Checker: Init reads the whole weight.
func (s *site) Check() error { return nil }

// project returns Q and the right factor of the projection, Q·rightᵀ, both [out, r].
func (s *site) project(t *nn.Tape) (q, right *nn.Var) {
	if s.cfg.Kind == qr {
		q = s.orthonormal(t)
		return q, q
	}
	return s.p.V, nn.Apply(t, s.p.V, nn.ReLU)
}

// Attach implements tuner.Site: with y the output without its bias, it adds
// (R x - rightᵀ y) Qᵀ.
func (s *site) Attach(scale float32) error {
	fixed := s.fixedBias()
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		y := next(t, x)
		q, right := s.project(t)
		terms := []nn.LowRank{{X: y, B: nn.Transpose(t, right), Scale: -1}}
		if s.r != nil {
			put := nn.LowRank{B: s.r.V, Scale: s.gain}
			if s.cfg.Dropout > 0 && t.Train {
				put.X = nn.Dropout(t, x, float32(s.cfg.Dropout))
			}
			terms = append(terms, put)
		}
		u := nn.LinearOp(t, x, nil, nil, terms...)
		if b := s.bias(fixed); b != nil {
			u = nn.AddRow(t, u, nn.MatMul(t, b, right))
		}
		out := nn.Add(t, y, nn.LinearOp(t, u, nil, nil, nn.LowRank{B: q, Scale: scale}))
		t.Discard(y)
		return out
	})
	return nil
}

// fixedBias returns the layer's bias as a constant, nil without one or when it is
// trained.
func (s *site) fixedBias() *nn.Var {
	b := s.layer.Bias
	if b == nil || b.P != nil {
		return nil
	}
	v := tuner.Constant(make([]float32, b.In), 1, b.In)
	b.Row(v.Data, 0)
	return v
}

func (s *site) bias(fixed *nn.Var) *nn.Var {
	if b := s.layer.Bias; b != nil && b.P != nil {
		return b.P.V
	}
	return fixed
}

// Merge implements tuner.Merging: it adds Q (R - rightᵀ W).
func (s *site) Merge(w kernels.Mat, scale float32) {
	t := nn.NewTape()
	defer t.Close()
	q, right := s.project(t)
	change := kernels.NewMat(right.Cols, w.Cols)
	kernels.Gemm(change, false, kernels.Term{A: right.Mat(), TransA: true, B: w, Scale: -1})
	if s.r != nil {
		kernels.Axpy(s.gain, s.r.V.Data, change.Data)
	}
	tuner.AddProduct(w, q.Mat(), change, scale)
}
