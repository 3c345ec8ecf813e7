package lora

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

// adapter is a LoRA on a model: what the tuner gives, the rates of LoRA+, the
// gradients of LoRA-FA, and the way adapters of a changed base are written.
type adapter struct {
	*tuner.Adapter
	cfg *config
}

var (
	_ peft.Adapter  = (*adapter)(nil)
	_ peft.Exporter = (*adapter)(nil)
	_ peft.Rater    = (*adapter)(nil)
	_ peft.Stepper  = (*adapter)(nil)
)

// New implements peft.Method.
func (m method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	ad, err := m.Method.New(mod, o, seed)
	if err != nil {
		return nil, err
	}
	out := wrap(ad)
	out.cfg.fresh = true
	return out, nil
}

// Load implements peft.Method.
func (m method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	ad, err := m.Method.Load(mod, a, scale)
	if err != nil {
		return nil, err
	}
	return wrap(ad), nil
}

func wrap(ad peft.Adapter) *adapter {
	a := &adapter{Adapter: ad.(*tuner.Adapter)}
	a.cfg = a.Tuner.(*config)
	return a
}

// converts reports whether the file is written for the base model as it was.
func (a *adapter) converts() bool {
	return a.cfg.fresh && a.cfg.changesBase() && !a.cfg.Residual
}

// Config implements peft.Adapter.
func (a *adapter) Config() (json.RawMessage, error) {
	if a.Cfg.TargetModules.IsAllLinear() {
		a.Cfg.SetTargets(peft.Targets{List: peft.ShortNames(a.cfg.paths())})
	}
	if a.cfg.fresh && a.cfg.initKind == initLoftQ && !a.cfg.requantises() {
		a.Cfg.Set("init_lora_weights", true) // PEFT would quantise the base again
	}
	raw, err := a.Adapter.Config()
	if err != nil || !a.cfg.fresh || !a.cfg.changesBase() {
		return raw, err
	}
	c, err := peft.ParseConfig(raw)
	if err != nil {
		return nil, err
	}
	if a.cfg.Residual {
		if a.cfg.initKind != initOLoRA {
			c.Set("init_lora_weights", initPiSSA) // of pissa_niter_k too: ours is exact
		}
		return c.JSON()
	}
	a.cfg.doubled(c)
	return c.JSON()
}

// doubled makes the configuration that of an ordinary LoRA of twice the rank and
// the same scale. Embeddings, which have no second half, keep theirs by pattern.
func (c *config) doubled(out *peft.Config) {
	factor := 2.0
	if c.UseRSLoRA {
		factor = math.Sqrt2 // alpha / sqrt(2 r) is to be the scale
	}
	twice := func(key string, of tuner.Patterns, f float64, keep func(*site) float64) {
		var all []peft.Pattern
		for _, s := range c.sites { // the first that fits decides
			if s.start == nil {
				all = append(all, peft.Pattern{Key: strings.ReplaceAll(s.at.Path, ".", `\.`), Value: keep(s)})
			}
		}
		for _, p := range of.List() {
			all = append(all, peft.Pattern{Key: p.Key, Value: p.Value * f})
		}
		out.Set(key, tuner.NewPatterns(key, all))
	}
	out.Set("r", 2*c.R)
	out.Set("lora_alpha", c.Alpha*factor)
	twice("rank_pattern", c.single.Ranks, 2, func(s *site) float64 { return float64(s.rank) })
	twice("alpha_pattern", c.single.Alphas, factor, func(s *site) float64 { return s.alpha })
	out.Set("init_lora_weights", true)
}

// Export implements peft.Exporter. Where the base was changed, A and B are written
// as [A; A0] and [B, -B0], whose product is B A - B0 A0.
func (a *adapter) Export() ([]formats.OutTensor, error) {
	out, err := a.Adapter.Export()
	if err != nil || !a.converts() {
		return out, err
	}
	for _, s := range a.cfg.sites {
		if s.start == nil {
			continue
		}
		r := s.rank
		both := append(slices.Clone(s.a.V.Data), s.start.a.Data...)
		wide := make([]float32, 0, 2*len(s.b.V.Data))
		for o := range s.b.V.Rows {
			wide = append(wide, s.b.V.Data[o*r:(o+1)*r]...)
			for _, v := range s.start.b.Data[o*r : (o+1)*r] {
				wide = append(wide, -v)
			}
		}
		for i := range out {
			switch out[i].Name {
			case s.a.Name:
				out[i] = named(s.a.Name, both, 2*r, s.a.V.Cols)
			case s.b.Name:
				out[i] = named(s.b.Name, wide, s.b.V.Rows, 2*r)
			}
		}
	}
	return out, nil
}

func named(name string, v []float32, rows, cols int) formats.OutTensor {
	t := outFloats(v, []int{rows, cols})
	t.Name, t.Type = name, tensor.F32
	return *t
}

// Summary implements peft.Adapter.
func (a *adapter) Summary() string {
	return fmt.Sprintf("%s on %d modules (%s)", a.cfg.Describe(), len(a.cfg.sites), strings.Join(peft.ShortNames(a.cfg.paths()), ", "))
}

func (c *config) paths() []string {
	var out []string
	for _, s := range c.sites {
		out = append(out, s.at.Path)
	}
	return out
}

// Rate implements peft.Rater: with LoRA+ (Hayou et al. 2024, arXiv 2402.12354) B
// and single numbers learn faster than A, adapted embeddings at a rate of their
// own; biases do not decay.
func (a *adapter) Rate(p *nn.Param) (lr, decay float64) {
	c := a.cfg
	if c.PlusRatio == 1 && c.PlusEmbedding == 1 {
		return 1, 1
	}
	switch {
	case strings.Contains(p.Name, ".lora_embedding_"):
		return c.PlusEmbedding, 1
	case strings.HasSuffix(p.Name, "bias"):
		return c.PlusRatio, 0
	case strings.Contains(p.Name, ".lora_B.") || len(p.Shape) == 1:
		return c.PlusRatio, 1
	}
	return 1, 1
}

// Begin implements peft.Stepper.
func (a *adapter) Begin(int, int) error { return nil }

// BeforeUpdate implements peft.Stepper. With LoRA-FA (Zhang et al. 2023, arXiv
// 2308.03303) the gradient of B becomes the one whose change of the weight is
// nearest to the whole weight's gradient: g (A Aᵀ)⁻¹ / s².
func (a *adapter) BeforeUpdate(int) {
	for _, h := range a.cfg.tied {
		h.remember()
	}
	if !a.cfg.FrozenA {
		return
	}
	for _, s := range a.cfg.sites {
		g := kernels.MatOf(s.b.V.Grad, s.b.V.Rows, s.b.V.Cols)
		d := kernels.NewMat(g.Rows, g.Cols)
		kernels.Gemm(d, false, kernels.Term{A: g, B: kernels.MatOf(s.projection, s.rank, s.rank), Scale: 1 / (s.scale * s.scale)})
		copy(g.Data, d.Data)
	}
}

// AfterUpdate implements peft.Stepper: tied factors stay one.
func (a *adapter) AfterUpdate(int) {
	for _, h := range a.cfg.tied {
		h.join()
	}
}

// project computes (A Aᵀ + 1e-8)⁻¹, which stays while A is frozen.
func (s *site) project() error {
	r := s.rank
	a := s.a.V.Mat()
	m, one := kernels.NewMat(r, r), make([]float32, r*r)
	kernels.Gemm(m, false, kernels.Term{A: a, B: a, TransB: true})
	for i := range r {
		m.Data[i*r+i] += 1e-8
		one[i*r+i] = 1
	}
	inv, err := linalg.Solve(m.Data, r, one, r)
	if err != nil {
		return fmt.Errorf("lora_fa: the rows of A are not independent: %w: %w", err, peft.ErrConfig)
	}
	s.projection = inv
	return nil
}
