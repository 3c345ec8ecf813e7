package cli

import (
	"github.com/peftkit/peftkit/peft"
)

// startTexts gives a fresh adapter that begins from texts their tokens.
func startTexts(ad peft.Adapter, l *loaded) error {
	s, ok := ad.(peft.TextStarter)
	if !ok {
		return nil
	}
	texts := s.StartTexts()
	if len(texts) == 0 {
		return nil
	}
	tokens := make([][]int32, len(texts))
	for i, text := range texts {
		tokens[i] = l.tok.Encode(text, true)
	}
	return s.StartTokens(tokens)
}
