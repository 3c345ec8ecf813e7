package lora

import (
	"fmt"

	"github.com/peftkit/peftkit/peft"
)

func (s *site) fitQuantised() error {
	return fmt.Errorf("init_lora_weights loftq: %w", peft.ErrConfig)
}
