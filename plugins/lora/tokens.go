package lora

import "github.com/peftkit/peftkit/peft/tuner"

type tokenGroup struct{}

func (c *config) checkTokens(bad func(string, ...any) error) error {
	if c.common.Raw("trainable_token_indices") != nil {
		return bad("trainable_token_indices")
	}
	return nil
}

func (c *config) declareTokens(ad *tuner.Adapter) error { return nil }
