// Package adalora is AdaLoRA (Zhang et al. 2023, arXiv 2303.10512) as a peftkit
// method: an update in the form of a singular value decomposition, whose ranks are
// shared out between the modules while it trains. Files are those of Hugging Face
// PEFT's ADALORA type.
package adalora

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// method adds the allocation of ranks to what the tuner does.
type method struct{ *tuner.Method }

// Method is AdaLoRA. Ranks and the moving averages are PEFT's; alpha and the
// learning rate lie in the middle of what the paper used for DeBERTa; the shares of
// a run before and after the ranks are cut are those of PEFT's benchmark.
var Method peft.Method = method{&tuner.Method{
	Facts: peft.Info{
		Name: "adalora", PeftType: "ADALORA", Group: peft.Reparametrisation,
		Doc:          "LoRA that gives more rank to the modules that need it, while it trains",
		Reference:    "Zhang et al. 2023, arXiv 2303.10512",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "target_r", Flag: "rank", Default: 8, Doc: "mean rank at the end"},
			peft.Option{Key: "init_r", Default: 12, Doc: "rank at the start"},
			peft.Option{Key: "lora_alpha", Flag: "alpha", Default: 32.0, Doc: "scale times init_r"},
			peft.Option{Key: "lora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of A"},
			peft.Option{Key: "tinit", Doc: "steps before ranks are cut; 4 % of the run by default"},
			peft.Option{Key: "tfinal", Doc: "steps after the ranks are settled; 10 % of the run by default"},
			peft.Option{Key: "deltaT", Default: 1, Doc: "steps between two cuts"},
			peft.Option{Key: "beta1", Default: 0.85, Doc: "smoothing of the importance"},
			peft.Option{Key: "beta2", Default: 0.85, Doc: "smoothing of its uncertainty"},
			peft.Option{Key: "orth_reg_weight", Default: 0.5, Doc: "weight of the loss that keeps A and B orthogonal"},
			tuner.BiasOption("lora"),
			peft.Option{Key: "init_lora_weights", Default: true, Doc: "start from no change; false draws everything"},
		),
	},
	Configure: configure,
	Targets:   tuner.TargetTable(special),
}}

// special is where PEFT's targets are not LoRA's.
var special = map[string][]string{
	"t5": {"q", "k", "v", "o", "wi", "wo"}, "mt5": {"q", "k", "v", "o", "wi_0", "wi_1", "wo"},
	"bart": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}, "roberta": {"query", "key", "value", "dense"},
}

// New implements peft.Method.
func (m method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	return wrap(m.Method.New(mod, o, seed))
}

// Load implements peft.Method.
func (m method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	return wrap(m.Method.Load(mod, a, scale))
}

func wrap(ad peft.Adapter, err error) (peft.Adapter, error) {
	if err != nil {
		return nil, err
	}
	return newAdapter(ad.(*tuner.Adapter)), nil
}

type config struct {
	InitR     int               `json:"init_r"`
	TargetR   int               `json:"target_r"`
	Alpha     float64           `json:"lora_alpha"`
	Dropout   float64           `json:"lora_dropout"`
	TInit     int               `json:"tinit"`
	TFinal    int               `json:"tfinal"`
	DeltaT    int               `json:"deltaT"`
	Beta1     float64           `json:"beta1"`
	Beta2     float64           `json:"beta2"`
	Orth      float64           `json:"orth_reg_weight"`
	TotalStep int               `json:"total_step"`
	Init      bool              `json:"init_lora_weights"`
	Pattern   map[string][]bool `json:"rank_pattern"`
}

// must lists keys that PEFT's AdaLoraConfig inherits and that would change what is
// computed.
var must = map[string][]string{
	"use_dora": {"false"}, "layer_replication": nil, "trainable_token_indices": nil, "target_parameters": {"[]"}, "loftq_config": {"{}"},
	"alora_invocation_tokens": nil, "lora_bias": {"false"},
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{InitR: 12, TargetR: 8, Alpha: 8, DeltaT: 1, Beta1: 0.85, Beta2: 0.85, Orth: 0.5, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.Refuse(c, must); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("init_r", cfg.InitR); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("target_r", cfg.TargetR); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("lora_dropout", cfg.Dropout); err != nil {
		return nil, err
	}
	switch {
	case cfg.TargetR > cfg.InitR:
		return nil, tuner.Invalid("target_r is %d, more than init_r, %d: ranks are only cut", cfg.TargetR, cfg.InitR)
	case !(cfg.Beta1 > 0 && cfg.Beta1 < 1 && cfg.Beta2 > 0 && cfg.Beta2 < 1):
		return nil, tuner.Invalid("beta1 is %g and beta2 %g, expected between 0 and 1", cfg.Beta1, cfg.Beta2)
	case cfg.TInit < 0 || cfg.TFinal < 0 || cfg.DeltaT < 1:
		return nil, tuner.Invalid("tinit is %d, tfinal %d and deltaT %d, expected at least 0, 0 and 1", cfg.TInit, cfg.TFinal, cfg.DeltaT)
	case cfg.Orth < 0:
		return nil, tuner.Invalid("orth_reg_weight is %g, expected at least 0", cfg.Orth)
	}
	if cfg.TotalStep <= cfg.TInit+cfg.TFinal { // PEFT reads no file without it
		cfg.TotalStep = cfg.TInit + cfg.TFinal + 1
		c.Set("total_step", cfg.TotalStep)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("AdaLoRA rank %d to %d", c.InitR, c.TargetR) }

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// patternKey is the name of a module in rank_pattern.
func patternKey(path string) string { return path + ".lora_E" }

// Site implements tuner.Tuner. A module whose rank was cut has only the rows that
// rank_pattern keeps; it is scaled as if it had them all.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, layer: l, path: p.Path}
	kept, cut := c.Pattern[patternKey(p.Path)]
	if !cut {
		kept, cut = c.Pattern[patternKey(p.Path)+".default"]
	}
	if cut && len(kept) != c.InitR {
		return nil, tuner.Invalid("rank_pattern has %d values for %s, expected init_r, %d", len(kept), patternKey(p.Path), c.InitR)
	}
	for i := range c.InitR {
		if !cut || kept[i] {
			s.kept = append(s.kept, i)
		}
	}
	r := len(s.kept)
	alpha := float32(c.Alpha)
	if alpha <= 0 { // PEFT then takes the rank that is left
		alpha = float32(r)
	}
	s.scale = alpha / (float32(c.InitR) + 1e-5)
	s.a, s.b, s.e = p.Param("lora_A", r, p.In), p.Param("lora_B", p.Out, r), p.Param("lora_E", r, 1)
	return s, nil
}

// site adds scale * B·(A*E).
type site struct {
	cfg     *config
	layer   *nn.LinearLayer
	path    string
	scale   float32
	a, b, e *nn.Param
	kept    []int // places of the rows among the first init_r
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	sigma := 0.02
	if !s.cfg.Init {
		sigma = 1
		tuner.Normal(s.e.V.Data, sigma, rng.NormFloat64)
	}
	tuner.Normal(s.a.V.Data, sigma, rng.NormFloat64)
	tuner.Normal(s.b.V.Data, sigma, rng.NormFloat64)
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	if len(s.kept) == 0 {
		return nil
	}
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		return nn.LowRank{X: nn.Dropout(t, x, float32(s.cfg.Dropout)), A: nn.MulCol(t, s.a.V, s.e.V), B: s.b.V, Scale: scale * s.scale}
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	if len(s.kept) == 0 {
		return
	}
	a := kernels.NewMat(s.a.V.Rows, s.a.V.Cols)
	for r, e := range s.e.V.Data {
		copy(a.Row(r), s.a.V.Mat().Row(r))
		kernels.Scale(a.Row(r), e)
	}
	tuner.AddProduct(w, s.b.V.Mat().RowsOf(r0, r1), a, scale*s.scale)
}

// stateName names what is remembered about a parameter.
func stateName(p *nn.Param, what string) string {
	return strings.TrimPrefix(p.Name, peft.Prefix) + "." + what
}
