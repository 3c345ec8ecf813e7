package prompts

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/peft"
)

// The values of prompt_tuning_init that need no other adapter.
const (
	Random      = "RANDOM"
	SampleVocab = "SAMPLE_VOCAB"
	FromText    = "TEXT"
)

type start struct {
	Init      string  `json:"prompt_tuning_init"`
	Text      *string `json:"prompt_tuning_init_text"`
	Tokenizer string  `json:"tokenizer_name_or_path"`
}

// Begin initialises the embeddings of a [Direct] encoder as prompt_tuning_init
// says. With TEXT, which a given text implies, they wait for its tokens: see
// [WaitForText].
func Begin(a *Adapter, rng *rand.Rand) error {
	c := start{Init: Random}
	if err := a.Cfg.Decode(&c); err != nil {
		return err
	}
	if c.Text != nil {
		c.Init = FromText
		a.Cfg.Set("prompt_tuning_init", FromText)
	}
	switch c.Init {
	case Random:
		a.Encoder.Init(rng)
		return nil
	case SampleVocab:
		vocab := a.Model.Inputs[0].Embedding.W.Out
		ids := make([]int32, a.Geometry.Rows())
		for i := range ids {
			ids[i] = int32(rng.IntN(vocab))
		}
		return Embed(a, ids)
	case FromText:
		if c.Text == nil || *c.Text == "" {
			return fmt.Errorf("prompt_tuning_init is TEXT, but prompt_tuning_init_text is empty: %w", peft.ErrConfig)
		}
		if c.Tokenizer == "" { // PEFT refuses the file without
			a.Cfg.Set("tokenizer_name_or_path", a.Model.Source.Path)
		}
		return nil
	}
	return fmt.Errorf("prompt_tuning_init is %q, expected %s, %s or %s: %w", c.Init, Random, SampleVocab, FromText, peft.ErrConfig)
}

// WaitForText is a [Method]'s Wrap: a fresh adapter that begins from a text is a
// [peft.TextStarter], and does not train before it has the tokens.
func WaitForText(a *Adapter, fresh bool) peft.Adapter {
	var c start
	if !fresh || a.Cfg.Decode(&c) != nil || c.Init != FromText {
		return a
	}
	return &waiting{Adapter: a, text: *c.Text}
}

// waiting is a prompt that begins from a text whose tokens it waits for.
type waiting struct {
	*Adapter
	text  string
	begun bool
}

var (
	_ peft.TextStarter = (*waiting)(nil)
	_ peft.Stepper     = (*waiting)(nil)
)

// StartTexts implements peft.TextStarter.
func (w *waiting) StartTexts() []string {
	if w.begun {
		return nil
	}
	return []string{w.text}
}

// StartTokens implements peft.TextStarter: the tokens are repeated or cut to the
// number of rows, as PEFT does.
func (w *waiting) StartTokens(tokens [][]int32) error {
	if len(tokens) != 1 || len(tokens[0]) == 0 {
		return fmt.Errorf("prompt_tuning_init_text %q has no tokens: %w", w.text, peft.ErrConfig)
	}
	ids := make([]int32, w.Geometry.Rows())
	for i := range ids {
		ids[i] = tokens[0][i%len(tokens[0])]
	}
	w.begun = true
	return Embed(w.Adapter, ids)
}

// Begin implements peft.Stepper: training must not start from nothing.
func (w *waiting) Begin(done, _ int) error {
	if !w.begun && done == 0 {
		return fmt.Errorf("prompt_tuning_init is TEXT and the tokens of the text were not given: %w; call StartTokens with them", peft.ErrConfig)
	}
	return nil
}

// BeforeUpdate implements peft.Stepper.
func (w *waiting) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper.
func (w *waiting) AfterUpdate(int) {}
