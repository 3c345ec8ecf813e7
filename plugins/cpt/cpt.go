// Package cpt is context-aware prompt tuning (Blau et al. 2024, arXiv 2410.17222) as a
// peftkit method: examples of the task stand before every text, and what is trained is
// a small change of the embeddings of their tokens, those of the answers aside. Files,
// loss and projection are those of Hugging Face PEFT's CPT.
package cpt

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is context-aware prompt tuning. Its defaults are those of PEFT's example
// (examples/cpt_finetuning), where PEFT's own configuration has no decay and an epsilon
// of 0.1. PEFT wants the context from the caller; here it is made of the training data.
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "cpt", Aliases: []string{"context-aware-prompt-tuning"}, PeftType: "CPT", Group: peft.PromptBased,
		Doc:          "puts examples of the task before every text and trains a small change of their embeddings",
		Reference:    "Blau et al. 2024, arXiv 2410.17222",
		NotMergeable: "it puts embeddings before the text: no weight of the model holds them",
		LearningRate: 1e-4,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Doc: "the most tokens of the context: as many of the first examples as fit whole (default 128, at most a quarter of what the model takes)"},
			{Key: "cpt_token_ids", Doc: "the tokens of the context instead of those of the training data"},
			{Key: "cpt_tokens_type_mask", Doc: "the type of each: 4k+1, 4k+2, 4k+3 for template, input and answer's template of example k, 4k+4 for the answer, 0 for none"},
			{Key: "cpt_mask", Doc: "a mask of the tokens that PEFT keeps and does not use (default: ones)"},
			{Key: "opt_weighted_loss_type", Default: decay, Doc: "weigh the loss of the context's answers: none or decay"},
			{Key: "opt_loss_decay_factor", Default: 0.95, Doc: "with decay, what the loss of each answer is multiplied with, going back from the text"},
			{Key: "opt_projection_epsilon", Default: 0.2, Doc: "the largest change of an input's embedding, times sqrt(hidden size / 2048)"},
			{Key: "opt_projection_format_epsilon", Default: 0.1, Doc: "the same for embeddings of templates"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Prepare: prepare,
	Encoder: newContext,
	Init:    func(a *prompts.Adapter, _ *rand.Rand) error { return a.Encoder.(*contextEmbedding).embed() },
	Attach:  attach,
	Wrap:    wrap,
}

// defaultTokens is the length that a context is given from the data.
const defaultTokens = 128

// prepare refuses models that write no text by themselves, as PEFT does, and completes
// num_virtual_tokens, which PEFT takes from the tokens.
func prepare(cfg *peft.Config, m *model.Model) error {
	if task := m.Options.Task; task != "" && task != model.CausalLM {
		return fmt.Errorf("cpt is defined for CAUSAL_LM, the model is built for %s: %w; prompt-tuning fits", task, peft.ErrNoFit)
	}
	c := defaults()
	if err := cfg.Decode(&c); err != nil {
		return err
	}
	switch given := cfg.Raw("num_virtual_tokens"); {
	case len(c.Tokens) == 0 && (len(c.Types) > 0 || len(c.Mask) > 0):
		return fmt.Errorf("cpt_tokens_type_mask or cpt_mask without cpt_token_ids: %w; give all, or none to take the context from the training data", peft.ErrConfig)
	case len(c.Tokens) == 0 && given == nil:
		cfg.Set("num_virtual_tokens", max(2, min(defaultTokens, m.MaxPositions/4)))
	case len(c.Tokens) == 0 && string(given) == "1":
		return fmt.Errorf("num_virtual_tokens is 1, expected 2 or more: an input and an answer: %w", peft.ErrConfig)
	case len(c.Tokens) == 0:
	case given != nil && string(given) != fmt.Sprint(len(c.Tokens)):
		return fmt.Errorf("num_virtual_tokens is %s, but cpt_token_ids has %d tokens: %w; leave it out", given, len(c.Tokens), peft.ErrConfig)
	default:
		cfg.Set("num_virtual_tokens", len(c.Tokens))
	}
	return c.check(m)
}

// attach puts the context before every text and adds what it should predict to the loss.
func attach(a *prompts.Adapter) error {
	e := a.Encoder.(*contextEmbedding)
	e.ready = true
	a.Model.ExtraLabels += e.labelled
	return prompts.AttachLabelledRows(a, func() ([]int32, []float32) { return e.labels, e.weights })
}

func wrap(a *prompts.Adapter, fresh bool) peft.Adapter {
	t := &tuned{a, a.Encoder.(*contextEmbedding)}
	if fresh && !t.context.begun {
		return &fromData{t}
	}
	return t
}

// tuned is a context-aware prompt.
type tuned struct {
	*prompts.Adapter
	context *contextEmbedding
}

var (
	_ peft.Stepper    = (*tuned)(nil)
	_ peft.Calibrator = (*fromData)(nil)
)

// Begin implements peft.Stepper.
func (t *tuned) Begin(int, int) error { return t.context.trains() }

// BeforeUpdate implements peft.Stepper.
func (t *tuned) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper: what PEFT does before each forward pass.
func (t *tuned) AfterUpdate(int) { t.context.project() }
