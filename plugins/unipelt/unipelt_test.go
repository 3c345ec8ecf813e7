package unipelt_test

import (
	"testing"

	"github.com/peftkit/peftkit/internal/testmodel"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/unipelt"
)

func TestConformance(t *testing.T) {
	small := func(kv ...any) peft.Options {
		out := peft.Options{"prefix_length": 3, "bottleneck_size": 6, "non_linearity": "swish"}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i].(string)] = kv[i+1]
		}
		return out
	}
	pefttest.Run(t, unipelt.Method, []pefttest.Case{
		{Name: "llama", WholeText: true, Options: small()},
		{Name: "bert", Model: testmodel.BERT(3), Options: small()},
		{Name: "bart", WholeText: true, Model: testmodel.BART(), Options: small()},
		{Name: "t5", WholeText: true, Model: testmodel.T5Gated(), Options: small()},
		{Name: "flat", Model: testmodel.RoBERTa(3), Options: small("flat", true)},
		{Name: "flat llama", WholeText: true, Options: small("flat", true, "leave_out", []any{1})},
		{Name: "no gates", Options: small("use_gating", false)},
	})
}
