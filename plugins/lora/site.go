package lora

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site is one adapted module: A is [r, in] and B is [out, r]; for an embedding
// [r, vocab] and [dim, r]. How it merges depends on its kind: see linear,
// embedding, biased and doraEmbedding.
type site struct {
	cfg        *config
	at         *tuner.Place
	a, b       *nn.Param
	bias       *nn.Param // of B, nil without lora_bias
	mag        *nn.Param // DoRA's magnitudes, nil without
	rank       int
	alpha      float64
	scale      float32
	start      *start // nil where the base is as it was
	norms      norms
	effect     float32         // scale as attached
	off        bool            // EVA gave it no rank
	fitted     bool            // LoftQ set A and B
	observe    func(x *nn.Var) // EVA looks at the inputs
	projection []float32       // LoRA-FA's, [r, r]
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if p.Mod.Norm != nil {
		return nil, fmt.Errorf("target_modules hits it, a norm: LoRA adapts linear layers and embeddings; to train the norm in full, put it in modules_to_save: %w", peft.ErrConfig)
	}
	r, alpha, err := c.single.At(p.Path, c.R, c.Alpha)
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, at: p, rank: r, alpha: alpha, scale: float32(scaleOf(alpha, r, c.UseRSLoRA))}
	c.sites = append(c.sites, s)
	if p.Mod.Embedding != nil {
		switch {
		case c.requantises():
			return nil, fmt.Errorf("target_modules hits it, an embedding, which init_lora_weights loftq cannot begin; PEFT cannot either: %w", peft.ErrConfig)
		case c.LoraBias:
			return nil, fmt.Errorf("target_modules hits it, an embedding, which has no lora_bias: %w", peft.ErrConfig)
		case c.FrozenA:
			return nil, fmt.Errorf("target_modules hits it, an embedding, whose A begins as zero: lora_fa, which freezes A, could not train it: %w", peft.ErrConfig)
		}
		s.a = p.Param("lora_embedding_A", r, p.Out)
		s.b = p.Param("lora_embedding_B", p.In, r)
		if c.UseDoRA {
			s.mag = p.Param("lora_magnitude_vector", p.In)
			return &doraEmbedding{s}, nil
		}
		return &embedding{site: s}, nil
	}
	s.a = p.Param("lora_A.weight", r, p.In)
	s.b = p.Param("lora_B.weight", p.Out, r)
	if c.LoraBias {
		s.bias = p.Param("lora_B.bias", p.Out)
		return &biased{linear{s}}, nil
	}
	if c.UseDoRA {
		s.mag = p.Param("lora_magnitude_vector", p.Out)
	}
	if c.requantises() {
		return requantise(&linear{s})
	}
	return &linear{s}, nil
}

// linear is a site of a linear layer.
type linear struct{ *site }

// Attach implements tuner.Site.
func (s *linear) Attach(scale float32) error {
	s.effect = s.scale * scale
	layer := s.at.Mod.Linear
	if s.mag != nil {
		return s.attachDoRA(layer, scale)
	}
	p := float32(s.cfg.Dropout)
	layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		s.see(x)
		if s.off {
			return nn.LowRank{}
		}
		lr := nn.LowRank{A: s.a.V, B: s.b.V, Scale: s.effect}
		if p > 0 && t.Train {
			lr.X = nn.Dropout(t, x, p)
		}
		return lr
	})
	if s.start != nil {
		layer.AddLowRank(func(*nn.Tape, *nn.Var) nn.LowRank { return s.start.term(s.effect) })
	}
	if s.bias != nil {
		layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
			y := next(t, x)
			if s.off {
				return y
			}
			row := s.bias.V
			if s.effect != 1 {
				row = nn.Scale(t, row, s.effect)
			}
			return nn.AddRow(t, y, row)
		})
	}
	return nil
}

func (s *site) see(x *nn.Var) {
	if s.observe != nil {
		s.observe(x)
	}
}

// MergeRows implements tuner.RowMerging. As in PEFT's merge_and_unload the
// product B A is taken in float32, then scaled, then added to the weight.
func (s *linear) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	eff := s.scale * scale
	if s.start != nil {
		addProduct(w, -eff, kernels.Term{A: s.start.b.Mat().RowsOf(r0, r1), B: s.start.a.Mat()})
	}
	addProduct(w, eff, kernels.Term{A: s.b.V.Mat().RowsOf(r0, r1), B: s.a.V.Mat()})
	if s.mag != nil {
		s.mergeMagnitude(w, r0, scale)
	}
}

// addProduct adds scale times a product. It is rounded before the sum, as by two
// operations of PyTorch.
func addProduct(w kernels.Mat, scale float32, t kernels.Term) {
	d := kernels.NewMat(w.Rows, w.Cols)
	kernels.Gemm(d, false, t)
	for r := range w.Rows {
		row, add := w.Row(r), d.Row(r)
		for i, x := range add {
			row[i] += float32(scale * x)
		}
	}
}

// biased is a linear layer whose B has a bias (lora_bias).
type biased struct{ linear }

// MergeBias implements tuner.BiasMerging.
func (s *biased) MergeBias(b []float32, scale float32) {
	eff := s.scale * scale
	for i, x := range s.bias.V.Data {
		b[i] += float32(eff * x)
	}
}

// NeedsBias implements tuner.BiasMerging.
func (s *biased) NeedsBias() bool { return true }

// embedding is a site of an embedding. PEFT applies no dropout to its input: it is
// a table look-up.
type embedding struct {
	*site
	tied bool // the output embedding is changed with it, see tiedHead
}

// Attach implements tuner.Site.
func (s *embedding) Attach(scale float32) error {
	s.effect = s.scale * scale
	b := s.factor()
	s.at.Mod.Embedding.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		z := nn.GatherCols(t, s.a.V, ids, s.at.Mod.Embedding.PaddingRow())
		return nn.Add(t, next(t, ids), nn.Scale(t, nn.LinearOp(t, z, b, nil), s.effect))
	})
	return nil
}

// factor is B as a weight.
func (s *site) factor() *nn.Weight {
	return &nn.Weight{Name: s.b.Name, Out: s.b.V.Rows, In: s.b.V.Cols, P: s.b}
}

// MergeRows implements tuner.RowMerging: rows are tokens.
func (s *embedding) MergeRows(w kernels.Mat, r0, r1 int, scale float32) { s.addRows(w, r0, r1, scale) }

// MergesTied implements tuner.TiedMerging.
func (s *embedding) MergesTied() bool { return s.tied }

// addRows adds rows of s (B A)ᵀ.
func (s *site) addRows(w kernels.Mat, r0, r1 int, scale float32) {
	a := s.a.V.Mat()
	part := kernels.Mat{Data: a.Data[r0:], Rows: a.Rows, Cols: r1 - r0, Stride: a.Stride}
	addProduct(w, s.scale*scale, kernels.Term{A: part, TransA: true, B: s.b.V.Mat(), TransB: true})
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if err := s.begin(rng); err != nil {
		return err
	}
	if s.cfg.FrozenA {
		return s.project()
	}
	if s.mag != nil {
		copy(s.mag.V.Data, s.norms.of(s, s.scale))
	}
	return nil
}
