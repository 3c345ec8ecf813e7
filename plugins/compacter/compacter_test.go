package compacter_test

import (
	"testing"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/compacter"
)

func TestConformance(t *testing.T) {
	small := func(kv ...any) peft.Options {
		out := peft.Options{"reduction_factor": 4, "phm_init_range": 0.1}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i].(string)] = kv[i+1]
		}
		return out
	}
	pefttest.Run(t, compacter.Compacter, []pefttest.Case{
		{Name: "defaults", Options: peft.Options{"phm_init_range": 0.1}},
		{Name: "llama", Options: small()},
		{Name: "bert", Model: testmodel.BERT(3), Options: small()},
		{Name: "whole", Options: peft.Options{"reduction_factor": 4, "factorized_phm_W": false, "shared_phm_rule": false}},
		{Name: "factorised rule", Options: small("factorized_phm_rule", true, "phm_rank", 2, "phm_dim", 2)},
		{Name: "shared W", Options: small("shared_W_phm", true)},
		{Name: "no bias, fixed rule", Options: small("phm_bias", false, "learn_phm", false)},
	})
	pefttest.Run(t, compacter.PlusPlus, []pefttest.Case{
		{Name: "++", Options: small()},
		{Name: "++ bert", Model: testmodel.RoBERTa(3), Options: small()},
	})
}
