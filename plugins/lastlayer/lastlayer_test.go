package lastlayer_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/lastlayer"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, lastlayer.Method, []pefttest.Case{{Name: "one", Identity: true}, {Name: "two", Identity: true, Options: peft.Options{"num_layers": 2}}})
}
