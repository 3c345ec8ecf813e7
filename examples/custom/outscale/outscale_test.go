package outscale_test

import (
	"testing"

	"example.com/custom/outscale"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
)

// The conformance suite that peftkit's own methods pass.
func TestMethod(t *testing.T) {
	pefttest.Run(t, outscale.Method{}, []pefttest.Case{
		{Name: "all linear layers", Identity: true},
		{Name: "two targets", Options: peft.Options{"target-modules": "v_proj,down_proj"}, Identity: true},
	})
}
