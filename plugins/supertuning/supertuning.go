// Package supertuning is Super-Tuning (Ilin et al. 2026, arXiv 2607.09287) as a
// peftkit method: the elements of each weight that are the largest are trained, and
// with a rank (the paper's Supra) LoRA's factors beside them. Files are those of
// Hugging Face PEFT's SUPERTUNING.
package supertuning

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is Super-Tuning, with the learning rate of PEFT's method comparison and of
// its example.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "supertuning", PeftType: "SUPERTUNING", Group: peft.Reparametrisation,
		Doc:          "trains each weight's largest elements, with a rank LoRA beside them",
		Reference:    "Ilin et al. 2026, arXiv 2607.09287",
		LearningRate: 1e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "sparsity", Default: 0.99, Doc: "share of each weight's elements that stay as they are"},
			peft.Option{Key: "select_top", Default: true, Doc: "train the largest elements; false trains the smallest"},
			peft.Option{Key: "r", Flag: "rank", Doc: "rank of LoRA beside the elements; none when it is not given"},
			peft.Option{Key: "lora_alpha", Flag: "alpha", Doc: "LoRA's scale times r; 2r when it is not given"},
			peft.Option{Key: "lora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of LoRA"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws random numbers"},
			peft.Option{Key: "save_precomputed_indices", Default: true, Doc: "keep the choice of elements in the file; false chooses again on loading, which takes the very same base"},
		),
	},
	NoExclude: true, NoLayers: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	Sparsity float64  `json:"sparsity"`
	Top      bool     `json:"select_top"`
	R        *int     `json:"r"`
	Alpha    *float64 `json:"lora_alpha"`
	Dropout  float64  `json:"lora_dropout"`
	Init     bool     `json:"init_weights"`
	Indices  bool     `json:"save_precomputed_indices"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Sparsity: 0.99, Top: true, Init: true, Indices: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("sparsity", cfg.Sparsity); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("lora_dropout", cfg.Dropout); err != nil {
		return nil, err
	}
	if cfg.R == nil {
		if cfg.Alpha != nil {
			return nil, tuner.Invalid("lora_alpha is %g and r is not set: give both, or neither for the elements alone", *cfg.Alpha)
		}
		return cfg, nil
	}
	if err := tuner.CheckRank("r", *cfg.R); err != nil {
		return nil, err
	}
	if cfg.Alpha == nil { // PEFT writes what it chose
		alpha := 2 * float64(*cfg.R)
		cfg.Alpha = &alpha
		c.Set("lora_alpha", alpha)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	end := "largest"
	if !c.Top {
		end = "smallest"
	}
	s := fmt.Sprintf("Super-Tuning of the %s %.3g %%", end, 100*(1-c.Sparsity))
	if c.R != nil {
		s += fmt.Sprintf(" and LoRA rank %d", *c.R)
	}
	return s
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if _, err := p.Linear(); err != nil {
		return nil, err
	}
	all := p.In * p.Out
	if all > math.MaxInt32 {
		return nil, fmt.Errorf("its weight [%d %d] has more elements than the file's int32 can number; leave it out of target_modules: %w", p.Out, p.In, peft.ErrConfig)
	}
	n := int(float64(all) * (1 - c.Sparsity))
	if n < 1 {
		return nil, fmt.Errorf("sparsity %g leaves no element of its weight [%d %d] to train; choose a lower one: %w", c.Sparsity, p.Out, p.In, peft.ErrConfig)
	}
	if !c.Indices && p.Mod.Weight().P != nil {
		return nil, fmt.Errorf("another method trains its weight, from which elements could not be chosen again; use save_precomputed_indices true: %w", peft.ErrConfig)
	}
	s := &site{cfg: c, Sparse: tuner.Sparse{Place: p, V: p.Param("supertuning_values", n)}}
	if c.R != nil {
		s.a = p.Param("supertuning_lora_A.weight", *c.R, p.In)
		s.b = p.Param("supertuning_lora_B.weight", p.Out, *c.R)
		s.scale = float32(*c.Alpha / float64(*c.R))
	}
	return s, nil
}

type site struct {
	cfg *config
	tuner.Sparse
	a, b  *nn.Param // LoRA's factors, nil without
	scale float32   // of their product
}

// Check implements tuner.Checker: choosing the elements takes a while, and cannot fail.
func (s *site) Check() error {
	if s.cfg.R == nil && s.cfg.Dropout > 0 {
		return tuner.Invalid("lora_dropout is %g and r is not set: there is no LoRA to drop inputs of", s.cfg.Dropout)
	}
	return nil
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if err := s.Check(); err != nil {
		return err
	}
	s.choose()
	if !s.cfg.Init {
		tuner.Normal(s.V.V.Data, 1, rng.NormFloat64)
	}
	if s.a == nil {
		return nil
	}
	tuner.Uniform(s.a.V.Data, 1/math.Sqrt(float64(s.a.V.Cols)), rng.Float64)
	if !s.cfg.Init {
		tuner.Uniform(s.b.V.Data, 1/math.Sqrt(float64(s.b.V.Cols)), rng.Float64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.Sparse.Attach(scale)
	if s.a == nil {
		return nil
	}
	p := float32(s.cfg.Dropout)
	s.Place.Mod.Linear.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		low := nn.LowRank{A: s.a.V, B: s.b.V, Scale: s.scale * scale}
		if p > 0 && t.Train {
			low.X = nn.Dropout(t, x, p)
		}
		return low
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.Sparse.MergeRows(w, r0, r1, scale)
	if s.a != nil {
		tuner.AddProduct(w, s.b.V.Mat().RowsOf(r0, r1), s.a.V.Mat(), s.scale*scale)
	}
}
