package gralora_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/gralora"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, gralora.Method, []pefttest.Case{
		{Name: "two", Identity: true, Options: peft.Options{"rank": 4, "alpha": 8}},
		{Name: "four", Identity: true, Options: peft.Options{"rank": 8, "gralora_k": 4, "target_modules": "q_proj,v_proj,down_proj"}},
		{Name: "one is LoRA", Identity: true, Options: peft.Options{"rank": 3, "gralora_k": 1}},
		{Name: "hybrid", Identity: true, Options: peft.Options{"rank": 4, "hybrid_r": 3}},
		{Name: "random", Options: peft.Options{"rank": 4, "hybrid_r": 2, "init_weights": false, "alpha": 3}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "bias": "all"}},
		{Name: "t5", Identity: true, Model: testmodel.T5(), Options: peft.Options{"rank": 4, "alpha": 2}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{
		{"rank": 0}, {"rank": 3}, {"gralora_k": 0}, {"rank": 7, "gralora_k": 7}, {"hybrid_r": -1}, {"dropout": 1}, {"target_modules": "embed_tokens"},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = gralora.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
