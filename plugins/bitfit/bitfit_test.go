package bitfit_test

import (
	"testing"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/bitfit"
)

func TestConformance(t *testing.T) {
	biased := testmodel.Default()
	biased.Bias = true
	pefttest.Run(t, bitfit.Method, []pefttest.Case{{Name: "all", Identity: true, Model: biased}, {Name: "values", Identity: true, Model: biased, Options: peft.Options{"target_modules": "v_proj"}}})
}
