package miss_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/miss"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, miss.Method, []pefttest.Case{{Name: "plain", Identity: true, Options: peft.Options{"rank": 8}}, {Name: "short block", Identity: true, Options: peft.Options{"rank": 6}}, {Name: "bat", Identity: true, Options: peft.Options{"rank": 8, "init_weights": "bat"}}, {Name: "mini", Identity: true, Options: peft.Options{"rank": 8, "mini_r": 4, "init_weights": "mini"}}})
}
