package lora

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site is one adapted module: A is [r, in] and B is [out, r]; for an embedding
// [r, vocab] and [dim, r].
type site struct {
	cfg   *config
	mod   *model.Module
	a, b  *nn.Param
	scale float32
}

// Init implements tuner.Site. Linear layers get A uniform within 1/sqrt(in)
// (Kaiming with a = sqrt 5) and B zero, embeddings A zero and B standard normal,
// as PEFT does by default.
func (s *site) Init(rng *rand.Rand) error {
	kaiming := func(p *nn.Param) {
		tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64)
	}
	switch kind := s.cfg.initKind; {
	case kind != "true" && kind != "gaussian" && kind != "false":
		return fmt.Errorf("init_lora_weights %q: this peftkit starts LoRA with true, gaussian or false: %w", kind, peft.ErrConfig)
	case s.mod.Embedding != nil:
		tuner.Normal(s.b.V.Data, 1, rng.NormFloat64)
		if kind == "false" {
			tuner.Normal(s.a.V.Data, 1, rng.NormFloat64)
		}
	case kind == "gaussian":
		tuner.Normal(s.a.V.Data, 1/float64(s.a.V.Rows), rng.NormFloat64)
	default:
		kaiming(s.a)
		if kind == "false" {
			kaiming(s.b)
		}
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	p, eff := float32(s.cfg.Dropout), s.scale*scale
	if s.mod.Linear != nil {
		s.mod.Linear.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
			lr := nn.LowRank{A: s.a.V, B: s.b.V, Scale: eff}
			if p > 0 && t.Train {
				lr.X = nn.Dropout(t, x, p)
			}
			return lr
		})
		return nil
	}
	// PEFT applies no dropout to an embedding's input: it is a table look-up.
	b := &nn.Weight{Name: s.b.Name, Out: s.b.V.Rows, In: s.b.V.Cols, P: s.b}
	s.mod.Embedding.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		z := nn.GatherCols(t, s.a.V, ids)
		return nn.Add(t, next(t, ids), nn.Scale(t, nn.LinearOp(t, z, b, nil), eff))
	})
	return nil
}

// MergeRows implements tuner.RowMerging. As in PEFT's merge_and_unload the
// product B A is taken in float32, then scaled, then added to the weight.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	d := kernels.NewMat(w.Rows, w.Cols)
	a, b := s.a.V.Mat(), s.b.V.Mat()
	if s.mod.Embedding != nil { // (B A)ᵀ: rows are tokens
		part := kernels.Mat{Data: a.Data[r0:], Rows: a.Rows, Cols: r1 - r0, Stride: a.Stride}
		kernels.Gemm(d, false, kernels.Term{A: part, TransA: true, B: b, TransB: true})
	} else {
		kernels.Gemm(d, false, kernels.Term{A: b.RowsOf(r0, r1), B: a})
	}
	// The product is rounded before the sum, as by two operations of PyTorch.
	eff := s.scale * scale
	for r := range w.Rows {
		row, add := w.Row(r), d.Row(r)
		for i, x := range add {
			row[i] += float32(eff * x)
		}
	}
}
