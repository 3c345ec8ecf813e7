// Package prompttuning is prompt tuning (Lester et al. 2021, arXiv 2104.08691) as
// a peftkit method: a few trained embeddings stand before every text. Files are
// those of Hugging Face PEFT's PROMPT_TUNING.
package prompttuning

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is prompt tuning. The paper trains 100 tokens with Adafactor at a
// constant 0.3; see LearningRate's comment for AdamW.
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "prompt-tuning", Aliases: []string{"prompt_tuning", "prompt"}, PeftType: "PROMPT_TUNING", Group: peft.PromptBased,
		Doc:          "trains embeddings that stand before every text",
		Reference:    "Lester et al. 2021, arXiv 2104.08691",
		NotMergeable: "its rows stand before the text: no weight of the model holds them",
		// Between the 0.3 of the paper, which is Adafactor's, and what AdamW needs with
		// embeddings that begin as those of words.
		LearningRate: 3e-2,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Default: 20, Doc: "number of trained embeddings; 100 in the paper"},
			{Key: "prompt_tuning_init", Flag: "prompt-init", Default: sampleVocab, Doc: "begin with SAMPLE_VOCAB (embeddings of random tokens), RANDOM (normal numbers) or TEXT"},
			{Key: "prompt_tuning_init_text", Flag: "prompt-text", Doc: "text whose embeddings TEXT begins with"},
			{Key: "tokenizer_name_or_path", Doc: "where PEFT finds the tokenizer of the text; the model's own is used here"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Encoder: encoder,
	Init:    initialise,
	Attach:  prompts.AttachRows,
	Wrap:    wrap,
}

const (
	random      = "RANDOM"
	sampleVocab = "SAMPLE_VOCAB"
	fromText    = "TEXT"
)

type config struct {
	Init      string  `json:"prompt_tuning_init"`
	Text      *string `json:"prompt_tuning_init_text"`
	Tokenizer string  `json:"tokenizer_name_or_path"`
}

func encoder(a *prompts.Adapter, _ bool) (prompts.Encoder, error) {
	return prompts.NewDirect(a.Geometry.Rows(), a.Geometry.Width), nil
}

// initialise draws the embeddings; for TEXT the tokens come later.
func initialise(a *prompts.Adapter, rng *rand.Rand) error {
	var c config
	if err := a.Cfg.Decode(&c); err != nil {
		return err
	}
	if c.Text != nil && c.Init == sampleVocab {
		// The text was given and the start was not: it is meant to be used.
		c.Init = fromText
		a.Cfg.Set("prompt_tuning_init", fromText)
	}
	switch c.Init {
	case random:
		a.Encoder.Init(rng)
		return nil
	case sampleVocab:
		vocab := a.Model.Inputs[0].Embedding.W.Out
		ids := make([]int32, a.Geometry.Rows())
		for i := range ids {
			ids[i] = int32(rng.IntN(vocab))
		}
		return prompts.Embed(a, ids)
	case fromText:
		if c.Text == nil || *c.Text == "" {
			return fmt.Errorf("prompt_tuning_init is TEXT, but prompt_tuning_init_text is empty: %w", peft.ErrConfig)
		}
		if c.Tokenizer == "" { // PEFT refuses the file without
			a.Cfg.Set("tokenizer_name_or_path", a.Model.Source.Path)
		}
		return nil
	}
	return fmt.Errorf("prompt_tuning_init is %q, expected %s, %s or %s: %w", c.Init, random, sampleVocab, fromText, peft.ErrConfig)
}

func wrap(a *prompts.Adapter, fresh bool) peft.Adapter {
	var c config
	if !fresh || a.Cfg.Decode(&c) != nil || c.Init != fromText {
		return a
	}
	return &texts{Adapter: a, text: *c.Text}
}

// texts is a prompt that begins from a text whose tokens it waits for.
type texts struct {
	*prompts.Adapter
	text  string
	begun bool
}

var (
	_ peft.TextStarter = (*texts)(nil)
	_ peft.Stepper     = (*texts)(nil)
)

// StartTexts implements peft.TextStarter.
func (t *texts) StartTexts() []string { return []string{t.text} }

// StartTokens implements peft.TextStarter: the tokens are repeated or cut to the
// number of rows, as PEFT does.
func (t *texts) StartTokens(tokens [][]int32) error {
	if len(tokens) != 1 || len(tokens[0]) == 0 {
		return fmt.Errorf("prompt_tuning_init_text %q has no tokens: %w", t.text, peft.ErrConfig)
	}
	ids := make([]int32, t.Geometry.Rows())
	for i := range ids {
		ids[i] = tokens[0][i%len(tokens[0])]
	}
	t.begun = true
	return prompts.Embed(t.Adapter, ids)
}

// Begin implements peft.Stepper: training must not start from nothing.
func (t *texts) Begin(done, _ int) error {
	if !t.begun && done == 0 {
		return fmt.Errorf("prompt_tuning_init is TEXT and the tokens of the text were not given: %w; call StartTokens with them", peft.ErrConfig)
	}
	return nil
}

// BeforeUpdate implements peft.Stepper.
func (t *texts) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper.
func (t *texts) AfterUpdate(int) {}
