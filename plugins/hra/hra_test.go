package hra_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/hra"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, hra.Method, []pefttest.Case{{Name: "pairs", Identity: true, Options: peft.Options{"rank": 4}}, {Name: "odd", Options: peft.Options{"rank": 3}}, {Name: "Gram-Schmidt", Options: peft.Options{"rank": 3, "apply_GS": true, "target_modules": "q_proj,down_proj"}}})
}
