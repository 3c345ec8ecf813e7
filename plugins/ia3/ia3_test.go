package ia3_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/ia3"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, ia3.Method, []pefttest.Case{
		{Name: "defaults", Identity: true},
		{Name: "no feed-forward", Identity: true, Options: peft.Options{"target_modules": "q_proj,v_proj", "feedforward_modules": "none_of_these"}},
		{Name: "random", Options: peft.Options{"init_ia3_weights": false}},
	})
}
