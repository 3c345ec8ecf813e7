package lntuning_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/lntuning"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, lntuning.Method, []pefttest.Case{{Name: "all", Identity: true}, {Name: "input norms", Identity: true, Options: peft.Options{"target_modules": "input_layernorm"}}})
}
