package delora_test

import (
	"testing"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/delora"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, delora.Method, []pefttest.Case{{Name: "plain", Identity: true, Options: peft.Options{"rank": 3, "delora_lambda": 0.5}}, {Name: "patterns", Options: peft.Options{"rank": 4, "init_weights": false, "rank_pattern": map[string]any{"q_proj": 2}, "lambda_pattern": map[string]any{"v_proj": 3}}}})
}
