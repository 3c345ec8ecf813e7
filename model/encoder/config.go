package encoder

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Config is what the network depends on. The words are those of this package;
// Keys tells what a family's config.json calls them.
type Config struct {
	Vocab, Hidden, FFN, Layers, Heads int
	// Positions is the number of rows of the position table, of which the first
	// token of a sequence takes row Offset.
	Positions, Offset int
	// Padding is pad_token_id. With an Offset such a token takes row Padding and
	// does not count.
	Padding int
	// Types is the number of token types, 0 without a table.
	Types int
	// Act is transformers' name of the activation, Eps is added to variances in
	// norms, Init is the deviation that heads are drawn with.
	Act       string
	Eps, Init float64
	// Dropout is for training, Dropouts the same with the family's keys.
	Dropout  Dropout
	Dropouts model.Dropout
	// Keys are the names of Vocab, Hidden, FFN, Layers, Heads, Positions, Act and
	// Types in config.json.
	Keys Keys
}

// Dropout holds shares of elements that training sets to zero, in a family's places
// (transformers' modeling_bert and modeling_distilbert).
type Dropout struct {
	// Hidden is for the embeddings and the output of the feed-forward block,
	// AttentionOut for the output of attention, Attention for its probabilities.
	Hidden, AttentionOut, Attention float64
	// Dense and Sequence are for what the two linears of a sequence classifier read,
	// Token for what that of a token classifier does.
	Dense, Sequence, Token float64
}

// Keys are names in config.json, for messages.
type Keys struct{ Vocab, Hidden, FFN, Layers, Heads, Positions, Act, Types string }

// Limits that no real model comes near; beyond them a header is absurd.
const (
	maxDim    = 1 << 20
	maxLayers = 1024
	maxVocab  = 1 << 24
)

func (c *Config) check(family string) error {
	for _, d := range []struct {
		name        string
		v, min, max int
	}{
		{c.Keys.Vocab, c.Vocab, 1, maxVocab}, {c.Keys.Hidden, c.Hidden, 1, maxDim}, {c.Keys.FFN, c.FFN, 1, maxDim},
		{c.Keys.Layers, c.Layers, 1, maxLayers}, {c.Keys.Heads, c.Heads, 1, maxDim},
		{c.Keys.Positions, c.Positions, c.Offset + 1, maxVocab}, {c.Keys.Types, c.Types, 0, maxVocab},
		{"pad_token_id", c.Padding, 0, maxVocab},
	} {
		if d.v < d.min || d.v > d.max {
			return fmt.Errorf("config: %s is %d, expected %d to %d: %w", d.name, d.v, d.min, d.max, model.ErrMismatch)
		}
	}
	if c.Hidden%c.Heads != 0 {
		return fmt.Errorf("config: %s %d is no multiple of %s %d: %w", c.Keys.Hidden, c.Hidden, c.Keys.Heads, c.Heads, model.ErrMismatch)
	}
	if _, ok := nn.ActivationByName(c.Act); !ok {
		return fmt.Errorf("config: %s %q: %w; the %s family computes gelu, gelu_new, relu, silu and tanh", c.Keys.Act, c.Act, model.ErrUnsupported, family)
	}
	if err := c.Dropouts.Check(); err != nil {
		return err
	}
	if c.Eps <= 0 || c.Init < 0 {
		return fmt.Errorf("config: layer_norm_eps %g must be positive, initializer_range %g not negative: %w", c.Eps, c.Init, model.ErrMismatch)
	}
	return nil
}
