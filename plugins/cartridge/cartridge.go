// Package cartridge is Cartridges (Eyuboglu et al. 2025, arXiv 2506.06266) as a
// peftkit method: a cache of keys and values that stands before every text is trained
// as it is, beginning from what the model itself keeps of a text. Files are those of
// Hugging Face PEFT's CARTRIDGE.
package cartridge

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is Cartridges. It begins from the first tokens of the training data, the
// paper's choice, where PEFT draws normal numbers and leaves the rest to the caller. The
// learning rate is that of the paper's configurations.
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "cartridge", Aliases: []string{"cartridges"}, PeftType: "CARTRIDGE", Group: peft.PromptBased,
		Doc:          "trains the keys and values that the model keeps of a text, to stand before every text",
		Reference:    "Eyuboglu et al. 2025, arXiv 2506.06266",
		NotMergeable: "its keys and values stand before those of the text: no weight of the model holds them",
		LearningRate: 2e-2,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Default: 20, Doc: "number of keys and values of each layer"},
			{Key: "num_frozen_tokens", Default: 1, Doc: "the first of them that stay as they begin: models rest their attention on the first token"},
			{Key: "start", Default: fromData, Doc: "begin from the first tokens of the training data (data), from start_text, or with numbers: small, or normal as in PEFT"},
			{Key: "start_text", Doc: "a text to begin from"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Prefix:  true,
	Encoder: encoder,
	Init:    initialise,
	Attach:  attach,
	Wrap:    wrap,
}

// The ways to begin.
const (
	fromData = "data"
	fromText = "text"
	small    = "small"
	normal   = "normal"

	// smallSigma is the deviation of a small start.
	smallSigma = 0.02
)

type config struct {
	Frozen int    `json:"num_frozen_tokens"`
	Start  string `json:"start"`
	Text   string `json:"start_text"`
}

// cache is an encoder whose first rows are not trained.
type cache struct {
	config
	whole   *nn.Param // all rows, as they are saved
	trained *nn.Param // the last of them
	prefix  *prompts.Prefix
	ready   bool // the rows are in place: from here on the last ones alone are parameters
}

func encoder(a *prompts.Adapter, _ bool) (prompts.Encoder, error) {
	e := &cache{config: config{Frozen: 1, Start: normal}}
	if err := a.Cfg.Decode(&e.config); err != nil {
		return nil, err
	}
	for _, key := range []string{"start", "start_text"} { // no part of the file
		a.Cfg.Remove(key)
	}
	if e.Text != "" {
		e.Start = fromText
	}
	n := a.Geometry.Tokens
	switch {
	case e.Frozen < 0 || e.Frozen >= n:
		return nil, fmt.Errorf("num_frozen_tokens is %d, expected 0 to %d: one of the %d keys and values is to be trained: %w", e.Frozen, n-1, n, peft.ErrConfig)
	case e.Start == fromText && e.Text == "":
		return nil, fmt.Errorf("start is text, but start_text is empty: %w", peft.ErrConfig)
	case !slices.Contains([]string{fromData, fromText, small, normal}, e.Start):
		return nil, fmt.Errorf("start is %q, expected %s, %s, %s or %s: %w", e.Start, fromData, fromText, small, normal, peft.ErrConfig)
	}
	a.Cfg.Set("num_frozen_tokens", e.Frozen)
	var err error
	if e.prefix, err = prompts.NewPrefix(a, false); err != nil {
		return nil, err
	}
	cols := e.prefix.Columns()
	e.whole, e.trained = nn.NewParam(prompts.Saved, n, cols), nn.NewParam(prompts.EncoderPrefix+"trainable_embedding", n-e.Frozen, cols)
	e.trained.V.Data = e.whole.V.Data[e.Frozen*cols:]
	return e, nil
}

// Params implements prompts.Encoder.
func (e *cache) Params() []*nn.Param {
	if !e.ready {
		return []*nn.Param{e.whole}
	}
	return []*nn.Param{e.trained}
}

// Init implements prompts.Encoder, with torch's N(0, 1).
func (e *cache) Init(rng *rand.Rand) { prompts.Normal(rng, e.whole.V.Data, 1) }

// Forward implements prompts.Encoder.
func (e *cache) Forward(t *nn.Tape) *nn.Var {
	if e.Frozen == 0 {
		return e.trained.V
	}
	cols := e.whole.V.Cols
	return nn.Concat(t, &nn.Var{Rows: e.Frozen, Cols: cols, Data: e.whole.V.Data[:e.Frozen*cols]}, e.trained.V)
}

// Describe says what the encoder is.
func (e *cache) Describe() string { return fmt.Sprintf("the first %d frozen", e.Frozen) }

func initialise(a *prompts.Adapter, rng *rand.Rand) error {
	e := a.Encoder.(*cache)
	sigma := smallSigma
	if e.Start == normal {
		sigma = 1
	}
	prompts.Normal(rng, e.whole.V.Data, sigma)
	return nil
}

func attach(a *prompts.Adapter) error {
	e := a.Encoder.(*cache)
	e.ready = true
	e.prefix.Attach()
	return nil
}

// record begins from the keys and values of tokens, which are repeated or cut to the
// number of rows. source is what an encoder-decoder model reads.
func (e *cache) record(tokens []int32, source *model.Batch) {
	row := make([]int32, e.whole.V.Rows)
	for i := range row {
		row[i] = tokens[i%len(tokens)]
	}
	b := model.Sequence(row, 0)
	b.Source = source
	copy(e.whole.V.Data, e.prefix.Record(b).V.Data)
}

func wrap(a *prompts.Adapter, fresh bool) peft.Adapter {
	e := a.Encoder.(*cache)
	if fresh && e.Start == fromText {
		return &fromGiven{Adapter: a, cache: e}
	}
	if fresh && e.Start == fromData {
		return &fromTraining{Adapter: a, cache: e}
	}
	return &kept{a, e}
}

// kept is a cartridge whose frozen rows are kept in checkpoints.
type kept struct {
	*prompts.Adapter
	cache *cache
}

// frozen are the first rows as a tensor of checkpoints.
func (e *cache) frozen() []*nn.Param {
	if e.Frozen == 0 {
		return nil
	}
	p := nn.NewParam(prompts.EncoderPrefix+"frozen_embedding", e.Frozen, e.whole.V.Cols)
	p.V.Data = e.whole.V.Data[:len(p.V.Data)]
	return []*nn.Param{p}
}

// State implements peft.Stateful.
func (k *kept) State() []*nn.Param { return k.cache.frozen() }

// fromTraining begins from the first tokens of the training data.
type fromTraining struct {
	*prompts.Adapter
	cache *cache
}

var (
	_ peft.Calibrator  = (*fromTraining)(nil)
	_ peft.TextStarter = (*fromGiven)(nil)
	_ peft.Stepper     = (*fromGiven)(nil)
	_ peft.Stateful    = (*kept)(nil)
)

// State implements peft.Stateful.
func (f *fromTraining) State() []*nn.Param { return f.cache.frozen() }

// Calibrate implements peft.Calibrator.
func (f *fromTraining) Calibrate(_ context.Context, _ *model.Model, batches iter.Seq[*model.Batch]) error {
	var tokens []int32
	var source *model.Batch
	for b := range batches {
		tokens = append(tokens, b.Tokens...)
		if b.Source != nil && source == nil && len(b.Source.Seqs) > 0 {
			s := b.Source.Seqs[0]
			source = model.Sequence(b.Source.Tokens[s.Start:s.End], 0)
		}
		if len(tokens) >= f.Geometry.Tokens {
			break
		}
	}
	if len(tokens) == 0 {
		return fmt.Errorf("start is data, and the data have no tokens: %w", peft.ErrConfig)
	}
	f.cache.record(tokens, source)
	return nil
}

// fromGiven begins from a text whose tokens it waits for.
type fromGiven struct {
	*prompts.Adapter
	cache *cache
	begun bool
}

// State implements peft.Stateful.
func (g *fromGiven) State() []*nn.Param { return g.cache.frozen() }

// StartTexts implements peft.TextStarter.
func (g *fromGiven) StartTexts() []string {
	if g.begun {
		return nil
	}
	return []string{g.cache.Text}
}

// StartTokens implements peft.TextStarter.
func (g *fromGiven) StartTokens(tokens [][]int32) error {
	if len(tokens) != 1 || len(tokens[0]) == 0 {
		return fmt.Errorf("start_text %q has no tokens: %w", g.cache.Text, peft.ErrConfig)
	}
	var source *model.Batch
	if g.Model.EncoderDecoder() {
		source = model.Sequence(tokens[0], 0)
	}
	g.begun = true
	g.cache.record(tokens[0], source)
	return nil
}

// Begin implements peft.Stepper: training must not start from nothing.
func (g *fromGiven) Begin(done, _ int) error {
	if !g.begun && done == 0 {
		return fmt.Errorf("start is text and the tokens of start_text were not given: %w; call StartTokens with them", peft.ErrConfig)
	}
	return nil
}

// BeforeUpdate implements peft.Stepper.
func (g *fromGiven) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper.
func (g *fromGiven) AfterUpdate(int) {}
