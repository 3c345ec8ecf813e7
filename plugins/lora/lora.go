// Package lora is low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) as a
// peftkit method: y = W x + s B A dropout(x), with rsLoRA's scale (Kalajdzievski
// 2023, arXiv 2312.03732), per-module ranks and alphas, adapted embeddings,
// trained biases and modules_to_save. Files, keys and defaults of the file format
// are those of Hugging Face PEFT's LORA type.
package lora

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() {
	peft.Register(Method)
	for _, p := range presets {
		peft.Register(p.method(Method.(method).Method))
	}
}

// method adds the form that GGUF adapters have to what the tuner does.
type method struct{ *tuner.Method }

var _ peft.GGUFConverter = method{}

// Method is LoRA. The defaults for training are peftkit's (rank 16, alpha 32,
// every linear layer); those of a file that lacks a key are PEFT's.
var Method peft.Method = method{&tuner.Method{
	Facts: peft.Info{
		Name: "lora", PeftType: "LORA", Group: peft.Reparametrisation,
		Doc:          "adds a product of two thin matrices to the weights it targets",
		Reference:    "Hu et al. 2021, arXiv 2106.09685; rsLoRA: arXiv 2312.03732",
		LearningRate: 2e-4,
		Options: []peft.Option{
			{Key: "r", Flag: "rank", Default: 16, Doc: "rank of A and B, whose product is the update of a weight"},
			{Key: "lora_alpha", Flag: "alpha", Default: 32.0, Doc: "the update is multiplied by alpha/rank; by alpha/sqrt(rank) with use_rslora"},
			{Key: "lora_dropout", Flag: "dropout", Default: 0.0, Doc: "share of the input of A that a training step leaves out"},
			{Key: "target_modules", Flag: "target-modules", Default: peft.AllLinear, Doc: "suffixes, a regular expression, or all-linear"},
			{Key: "exclude_modules", Doc: "suffixes or a regular expression of modules to leave alone"},
			{Key: "use_rslora", Default: false, Doc: "scale by alpha/sqrt(rank) instead of alpha/rank"},
			{Key: "rank_pattern", Doc: "rank of single modules: {pattern: rank}"},
			{Key: "alpha_pattern", Doc: "alpha of single modules: {pattern: alpha}"},
			tuner.BiasOption("lora"),
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
			{Key: "layers_to_transform", Doc: "only these layers: a number or a list"},
			{Key: "layers_pattern", Doc: "name of the list of layers, where it is not the first numbered one"},
			{Key: "init_lora_weights", Default: true, Doc: "how A and B begin: true (A uniform, B zero), gaussian, false (both random), pissa (exact, slow), pissa_niter_K (K power iterations), olora, orthogonal, mica, eva, loftq"},
			{Key: "use_dora", Default: false, Doc: "train the length of each output feature too (DoRA)"},
			{Key: "lora_bias", Default: false, Doc: "give B a bias"},
			{Key: "trainable_token_indices", Doc: "tokens whose rows of the embedding are trained too: [indices]"},
			{Key: "ensure_weight_tying", Default: false, Doc: "change tied input and output embeddings as one, where target_modules or modules_to_save name one of them"},
			{Key: "eva_config", Doc: "of eva: {rho, tau, use_label_mask, whiten, adjust_scaling_factors}; rho times the rank is the most that a module can get"},
			{Key: "loraplus_lr_ratio", Doc: "training only: learning rate of B over that of A (LoRA+)"},
			{Key: "loraplus_embedding_ratio", Doc: "training only: learning rate of adapted embeddings over that of A (LoRA+)"},
			{Key: "lora_fa", Doc: "training only: A stays as it began, the gradient of B is projected (LoRA-FA)"},
			{Key: "loftq_config", Doc: "of loftq: {loftq_bits, loftq_iter}; 4 or 8 bits (4), rounds of quantisation and decomposition (1)"},
			{Key: "loftq_base", Doc: "training only: the model that a quantised one was made of, for init_lora_weights loftq; without, the model is quantised in memory"},
			{Key: "save_residual", Doc: "pissa and olora: write A and B as trained, which need the decomposition of the base model on each load, instead of an ordinary LoRA of twice the rank"},
		},
	},
	Configure: func(c *peft.Config) (tuner.Tuner, error) { return parse(c) },
	Targets:   tuner.QueryValue,
}}

// Finish implements tuner.Finisher: it says what is not trained, and writes what
// PEFT always writes.
func (c *config) Finish(ad *tuner.Adapter) error {
	for _, s := range c.sites {
		if c.FrozenA {
			ad.SetTrained(s.a, false)
		}
		if c.initKind == initMiCA {
			ad.SetTrained(s.b, false)
		}
	}
	for key, v := range map[string]any{
		"r": c.R, "lora_alpha": c.Alpha, "lora_dropout": c.Dropout, "bias": c.common.Bias, "use_rslora": c.UseRSLoRA,
		"use_dora": c.UseDoRA, "lora_bias": c.LoraBias,
	} {
		c.common.Set(key, v)
	}
	ad.SetFanInFanOut()
	return c.declareTokens(ad)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	what := "LoRA"
	switch {
	case c.UseDoRA:
		what = "DoRA"
	case c.FrozenA:
		what = "LoRA-FA"
	case c.PlusRatio != 1:
		what = "LoRA+"
	}
	kind, _, _ := strings.Cut(c.initKind, "_niter_")
	if begins := map[string]string{initPiSSA: "PiSSA", initOLoRA: "OLoRA", initOrthogonal: "orthogonal", initMiCA: "MiCA", initEVA: "EVA", initLoftQ: "LoftQ"}[kind]; begins != "" {
		what += " (" + begins + ")"
	}
	if len(c.single.Ranks.List()) > 0 {
		return what + " mixed ranks"
	}
	return fmt.Sprintf("%s rank %d", what, c.R)
}

// pairName splits the name of a first factor.
func pairName(name string) (path, partner string, embedding, ok bool) {
	if base, ok := strings.CutSuffix(name, ".lora_A.weight"); ok {
		return strings.TrimPrefix(base, peft.Prefix), base + ".lora_B.weight", false, true
	}
	if base, ok := strings.CutSuffix(name, ".lora_embedding_A"); ok {
		return strings.TrimPrefix(base, peft.Prefix), base + ".lora_embedding_B", true, true
	}
	return "", "", false, false
}
