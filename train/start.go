package train

import (
	"fmt"
	"iter"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
)

// startTexts gives an adapter that begins from texts their tokens, by the model's
// own tokenizer.
func startTexts(ad peft.Adapter, m *model.Model) error {
	s, ok := ad.(peft.TextStarter)
	if !ok {
		return nil
	}
	texts := s.StartTexts()
	if len(texts) == 0 {
		return nil
	}
	tok, err := tokenizer.FromModel(m.Source)
	if err != nil {
		return fmt.Errorf("the adapter begins from a text, and the model's tokenizer cannot be read: %w; give the tokens with StartTokens", err)
	}
	tokens := make([][]int32, len(texts))
	for i, text := range texts {
		tokens[i] = tok.Encode(text, true)
	}
	return s.StartTokens(tokens)
}

// texts runs over the tokens of all examples.
func texts(ds *data.Dataset) iter.Seq[[]int32] {
	return func(yield func([]int32) bool) {
		for i := range ds.Examples {
			if !yield(ds.Examples[i].Tokens) || ds.Examples[i].Source != nil && !yield(ds.Examples[i].Source) {
				return
			}
		}
	}
}
