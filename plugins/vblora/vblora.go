// Package vblora is VB-LoRA (Li et al. 2024, arXiv 2405.15179) as a peftkit method:
// the factors of all low-rank updates are put together from a shared bank of
// vectors, each piece a mixture of a few of them. Files are those of Hugging Face
// PEFT's VBLORA type.
package vblora

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// method adds the short form of files to what the tuner does.
type method struct{ *tuner.Method }

// Method is VB-LoRA. Rank, bank and choice are those of the paper and PEFT; the
// learning rate lies between the paper's for the bank, 1e-3, and for the logits,
// 1e-2.
var Method peft.Method = method{&tuner.Method{
	Facts: peft.Info{
		Name: "vblora", Aliases: []string{"vb-lora"}, PeftType: "VBLORA", Group: peft.Reparametrisation,
		Doc:          "builds LoRA's matrices from one bank of vectors that all modules share",
		Reference:    "Li et al. 2024, arXiv 2405.15179",
		LearningRate: 3e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 4, Doc: "rank of the updates"},
			peft.Option{Key: "num_vectors", Default: 256, Doc: "number of vectors in the bank"},
			peft.Option{Key: "vector_length", Default: 0, Doc: "length of a vector; 0 for the largest up to 256 that divides the sizes of all targets"},
			peft.Option{Key: "topk", Default: 2, Doc: "number of vectors that are mixed into a piece"},
			peft.Option{Key: "vblora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input"},
			peft.Option{Key: "save_only_topk_weights", Default: false, Doc: "write a small file that cannot be trained on"},
			peft.Option{Key: "init_vector_bank_bound", Default: 0.02, Doc: "largest number of a fresh bank"},
			peft.Option{Key: "init_logits_std", Default: 0.1, Doc: "deviation of fresh logits"},
			tuner.BiasOption("vblora"),
		),
	},
	Configure: configure,
	Targets: tuner.TargetTable(map[string][]string{
		"t5": {"q", "k", "v", "o", "wi", "wo"}, "mt5": {"q", "k", "v", "o", "wi_0", "wi_1", "wo"},
		"bart": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
	}),
}}

// Unbounded implements peft.Unbounded: PEFT gives minus infinity to the vectors that a
// file of the topk ones left out.
func (m method) Unbounded(tensor string) bool { return strings.Contains(tensor, ".vblora_logits_") }

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
	return &adapter{ad.(*tuner.Adapter)}, nil
}

type config struct {
	R       int     `json:"r"`
	Vectors int     `json:"num_vectors"`
	Length  int     `json:"vector_length"`
	TopK    int     `json:"topk"`
	Dropout float64 `json:"vblora_dropout"`
	Short   bool    `json:"save_only_topk_weights"`
	Bound   float64 `json:"init_vector_bank_bound"`
	Std     float64 `json:"init_logits_std"`

	common *peft.Config
	bank   *nn.Param // [vectors, length]
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 4, Vectors: 256, Length: 256, TopK: 2, Bound: 0.02, Std: 0.1, common: c}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("vblora_dropout", cfg.Dropout); err != nil {
		return nil, err
	}
	switch {
	case cfg.Vectors < 1 || cfg.Vectors > 1<<20:
		return nil, tuner.Invalid("num_vectors is %d, expected 1 to %d", cfg.Vectors, 1<<20)
	case cfg.Length < 0 || cfg.Length > 1<<20:
		return nil, tuner.Invalid("vector_length is %d, expected 0 to %d", cfg.Length, 1<<20)
	case cfg.TopK < 1 || cfg.TopK > cfg.Vectors:
		return nil, tuner.Invalid("topk is %d, expected 1 to num_vectors, %d", cfg.TopK, cfg.Vectors)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("VB-LoRA rank %d from %d vectors of %d", c.R, c.Vectors, c.Length)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if c.Length == 0 {
		if c.Length, err = p.Divisor(256); err != nil {
			return nil, err
		}
		c.common.Set("vector_length", c.Length)
	}
	if p.In%c.Length != 0 || p.Out%c.Length != 0 {
		return nil, tuner.Invalid("vector_length is %d, which does not divide %s of [%d,%d]", c.Length, p.Path, p.Out, p.In)
	}
	c.bank = p.Shared("vblora_vector_bank", true, c.Vectors, c.Length)
	return &site{
		cfg: c, layer: l,
		a: &mixture{cfg: c, logits: p.Param("vblora_logits_A", c.R, p.In/c.Length, c.Vectors)},
		b: &mixture{cfg: c, logits: p.Param("vblora_logits_B", p.Out/c.Length, c.R, c.Vectors)},
	}, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(seed uint64) error {
	tuner.Uniform(c.bank.V.Data, c.Bound, rand.New(rand.NewPCG(seed, 0x5642)).Float64)
	return nil
}
