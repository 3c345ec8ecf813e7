package cpt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

// The values of opt_weighted_loss_type.
const (
	decay = "decay"
	none  = "none"
)

// config are the method's own keys.
type config struct {
	Tokens        []int32 `json:"cpt_token_ids"`
	Mask          []int32 `json:"cpt_mask"`
	Types         []int   `json:"cpt_tokens_type_mask"`
	Weighted      string  `json:"opt_weighted_loss_type"`
	Factor        float64 `json:"opt_loss_decay_factor"`
	Epsilon       float64 `json:"opt_projection_epsilon"`
	FormatEpsilon float64 `json:"opt_projection_format_epsilon"`
}

// defaults are what PEFT takes for absent keys.
func defaults() config {
	return config{Weighted: none, Factor: 1, Epsilon: 0.1, FormatEpsilon: 0.1}
}

func (c *config) check(m *model.Model) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), peft.ErrConfig)
	}
	n := len(c.Tokens)
	switch {
	case n > 0 && len(c.Types) != n:
		return bad("cpt_token_ids has %d tokens and cpt_tokens_type_mask %d types, expected one for each", n, len(c.Types))
	case len(c.Mask) > 0 && len(c.Mask) != n:
		return bad("cpt_token_ids has %d tokens and cpt_mask %d numbers, expected one for each", n, len(c.Mask))
	case c.Weighted != "" && c.Weighted != none && c.Weighted != decay:
		return bad("opt_weighted_loss_type is %q, expected %s or %s", c.Weighted, none, decay)
	case !(c.Epsilon >= 0):
		return bad("opt_projection_epsilon is %g, expected 0 or more", c.Epsilon)
	case !(c.FormatEpsilon >= 0):
		return bad("opt_projection_format_epsilon is %g, expected 0 or more", c.FormatEpsilon)
	}
	for i, id := range c.Tokens {
		if id < 0 || int(id) >= m.VocabSize {
			return bad("cpt_token_ids[%d] is %d, the model's vocabulary has %d", i, id, m.VocabSize)
		}
	}
	for i, kind := range c.Types {
		if kind < 0 {
			return bad("cpt_tokens_type_mask[%d] is %d, expected 0 or more", i, kind)
		}
	}
	return nil
}

// What the rest of a token's type by 4 says.
const (
	answer = 0 // and of a type above 0: is predicted
	input  = 2
	// 1 is the template of an input, 3 that of an answer.
)

// contextEmbedding is the encoder: embeddings of the context's tokens and a trained
// change of some of them.
type contextEmbedding struct {
	config
	a     *prompts.Adapter
	whole *nn.Param // the embeddings without the change: what files hold, since theirs includes it
	delta *nn.Param // the change, [trained rows, hidden size]
	rows  []int32   // the trained rows
	// labels of the rows, -100 for none, and their weights in the loss; labelled of them
	// are labels.
	labels   []int32
	weights  []float32
	labelled int

	ready bool // whole is in place: from here on delta is the parameter
	begun bool // the context is that of the configuration, not one to be replaced
}

func newContext(a *prompts.Adapter, saved bool) (prompts.Encoder, error) {
	e := &contextEmbedding{config: defaults(), a: a}
	if err := a.Cfg.Decode(&e.config); err != nil {
		return nil, err
	}
	e.begun = len(e.Tokens) > 0
	if !e.begun && saved {
		return nil, fmt.Errorf("cpt_token_ids is missing: %w; PEFT always writes it", peft.ErrConfig)
	}
	if !e.begun { // until the data are there: PEFT's default, with every row as an input
		n := a.Geometry.Tokens
		e.Tokens, e.Types = make([]int32, n), slices.Repeat([]int{input}, n)
	}
	e.lay()
	return e, nil
}

// lay makes everything that follows from tokens and types, with a change of zero, and
// stores them in the configuration.
func (e *contextEmbedding) lay() {
	n, width := len(e.Tokens), e.a.Geometry.Width
	if len(e.Mask) != n {
		e.Mask = slices.Repeat([]int32{1}, n)
	}
	e.a.Geometry.Tokens = n
	e.a.Cfg.Set("num_virtual_tokens", n)
	e.a.Cfg.Set("cpt_token_ids", e.Tokens)
	e.a.Cfg.Set("cpt_tokens_type_mask", e.Types)
	e.a.Cfg.Set("cpt_mask", e.Mask)

	e.rows, e.labels, e.weights, e.labelled = nil, slices.Repeat([]int32{-100}, n), slices.Repeat([]float32{1}, n), 0
	factors := e.factors()
	for i, kind := range e.Types {
		switch {
		case kind%4 != answer:
			e.rows = append(e.rows, int32(i))
		case kind > 0 && i > 0: // nothing stands before the first
			e.labels[i-1], e.weights[i-1] = e.Tokens[i], factors[kind]
			e.labelled++
		}
	}
	e.whole = nn.NewParam(prompts.Saved, n, width)
	e.delta = nn.NewParam(prompts.EncoderPrefix+"delta_embedding.weight", len(e.rows), width)
}

// factors are the weights of the answers by their types: 1 for the text's, and each
// answer further back once more the factor.
func (e *contextEmbedding) factors() map[int]float32 {
	out := map[int]float32{}
	for _, kind := range e.Types[1:] {
		if kind > 0 && kind%4 == answer {
			out[kind] = 1
		}
	}
	if e.Weighted != decay {
		return out
	}
	kinds := make([]int, 0, len(out))
	for kind := range out {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	weight := e.Factor
	for _, kind := range slices.Backward(kinds) {
		out[kind] = float32(weight)
		weight *= e.Factor
	}
	return out
}

// trains reports what keeps the context from being trained.
func (e *contextEmbedding) trains() error {
	switch top := slices.Max(e.Types); {
	case !e.begun:
		return fmt.Errorf("the context was not taken from the training data: %w; call Calibrate with them, or give cpt_token_ids and cpt_tokens_type_mask", peft.ErrConfig)
	case len(e.rows) == 0:
		return fmt.Errorf("no token of the context has a type whose rest by 4 is 1, 2 or 3, so there is nothing to train: %w", peft.ErrConfig)
	case top%4 != answer:
		return fmt.Errorf("the highest type in cpt_tokens_type_mask is %d, and PEFT counts the text's types on from there, so that nothing of it would be an answer: %w; end with an answer, of a type that 4 divides", top, peft.ErrConfig)
	}
	return nil
}

// embed fills the embeddings with those of the tokens.
func (e *contextEmbedding) embed() error {
	if e.begun {
		if err := e.trains(); err != nil {
			return err
		}
	}
	return prompts.EmbedTokens(e.a, e.whole, e.Tokens)
}

// Params implements prompts.Encoder.
func (e *contextEmbedding) Params() []*nn.Param {
	switch {
	case !e.ready:
		return []*nn.Param{e.whole}
	case len(e.rows) == 0:
		return nil
	}
	return []*nn.Param{e.delta}
}

// Init implements prompts.Encoder; nothing is drawn.
func (e *contextEmbedding) Init(*rand.Rand) {}

// Forward implements prompts.Encoder.
func (e *contextEmbedding) Forward(t *nn.Tape) *nn.Var {
	w := e.whole.V
	fixed := &nn.Var{Rows: w.Rows, Cols: w.Cols, Data: w.Data}
	if len(e.rows) == 0 {
		return fixed
	}
	return nn.Add(t, fixed, nn.ScatterRows(t, e.delta.V, e.rows, w.Rows))
}

// project makes changes that are longer than their epsilon as long as it.
func (e *contextEmbedding) project() {
	d := e.delta.V.Mat()
	scale := math.Sqrt(float64(d.Cols) / 2048)
	for i, r := range e.rows {
		epsilon := e.FormatEpsilon
		if e.Types[r]%4 == input {
			epsilon = e.Epsilon
		}
		row, most := d.Row(i), float32(epsilon*scale)
		if norm := float32(math.Sqrt(float64(kernels.Dot(row, row)))); norm > most {
			kernels.Scale(row, most/norm)
		}
	}
}

// Describe says what the context is.
func (e *contextEmbedding) Describe() string {
	if !e.begun {
		return "to be taken from the training data"
	}
	return fmt.Sprintf("%d of them trained, %d predicted", len(e.rows), e.labelled)
}
