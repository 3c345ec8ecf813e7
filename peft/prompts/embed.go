package prompts

import (
	"fmt"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Embed sets the embeddings of a [Direct] encoder to those of tokens, one for
// each row: see [EmbedTokens].
func Embed(a *Adapter, tokens []int32) error {
	d, ok := a.Encoder.(*Direct)
	if !ok || len(tokens) != d.P.V.Rows {
		return fmt.Errorf("%d tokens for %d rows: %w", len(tokens), a.Geometry.Rows(), peft.ErrConfig)
	}
	return EmbedTokens(a, d.P, tokens)
}

// EmbedTokens sets the rows of p to the embeddings of tokens, as the model's input layer
// gives them (scaled where it scales).
func EmbedTokens(a *Adapter, p *nn.Param, tokens []int32) error {
	in := a.Model.Inputs[0].Embedding
	for _, id := range tokens {
		if id < 0 || int(id) >= in.W.Out {
			return fmt.Errorf("token %d is not in the model's vocabulary of %d: %w", id, in.W.Out, peft.ErrConfig)
		}
	}
	t := nn.NewTape()
	defer t.Close()
	copy(p.V.Data, in.Forward(t, tokens).Mat().Data)
	return nil
}
