package bottleneck_test

import (
	"testing"

	"github.com/peftkit/peftkit/internal/testmodel"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/bottleneck"
)

func TestHoulsby(t *testing.T) {
	o := func(kv ...any) peft.Options {
		out := peft.Options{"reduction_factor": 4}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i].(string)] = kv[i+1]
		}
		return out
	}
	pefttest.Run(t, bottleneck.Houlsby, []pefttest.Case{
		{Name: "llama", Options: o()},
		{Name: "bert", Model: testmodel.BERT(3), Options: o()},
		{Name: "roberta", Model: testmodel.RoBERTa(3), Options: o("non_linearity", "gelu")},
		{Name: "distilbert", Model: testmodel.DistilBERT(3), Options: o("non_linearity", "tanh")},
		{Name: "identity", Model: testmodel.BERT(3), Identity: true, Options: o("init_weights", "mam_adapter")},
		{Name: "norms", Model: testmodel.BERT(3), Options: o("ln_before", true, "ln_after", true, "non_linearity", "swish")},
		{Name: "residual in norm", Options: o("ln_after", true, "adapter_residual_before_ln", true)},
		{Name: "gate", WholeText: true, Options: o("use_gating", true)},
		{Name: "one per layer", Options: peft.Options{"reduction_factor": map[string]any{"0": 8, "default": 2.5}}},
		{Name: "leave out", Options: o("leave_out", []any{1})},
		{Name: "bart", Model: testmodel.BART(), Options: o("cross_adapter", true)},
		{Name: "t5", Model: testmodel.T5Gated(), Options: o("cross_adapter", true)},
	})
}

func TestPfeiffer(t *testing.T) {
	pefttest.Run(t, bottleneck.Pfeiffer, []pefttest.Case{
		{Name: "llama", Options: peft.Options{"reduction_factor": 4, "non_linearity": "swish"}},
		{Name: "bert", Model: testmodel.BERT(3), Options: peft.Options{"reduction_factor": 4, "non_linearity": "swish"}},
		{Name: "post add", Model: testmodel.BERT(3), Options: peft.Options{"reduction_factor": 4, "non_linearity": "tanh", "residual_before_ln": "post_add"}},
		{Name: "channel", Model: testmodel.DistilBERT(2), Options: peft.Options{
			"non_linearity": "gelu", "original_ln_after": false, "residual_before_ln": false, "init_weights": "houlsby", "scaling": "channel", "reduction_factor": 8}},
	})
}

func TestParallel(t *testing.T) {
	pefttest.Run(t, bottleneck.Parallel, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"non_linearity": "swish"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(3), Options: peft.Options{"non_linearity": "swish"}},
		{Name: "learned scale", Identity: true, Options: peft.Options{"scaling": "learned", "non_linearity": "tanh"}},
		{Name: "gate", Model: testmodel.RoBERTa(3), Identity: true, Options: peft.Options{"use_gating": true, "non_linearity": "tanh", "mh_adapter": true}},
	})
}
