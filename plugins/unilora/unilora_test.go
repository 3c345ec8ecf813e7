package unilora_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/unilora"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, unilora.Method, []pefttest.Case{
		{Name: "llama"},
		{Name: "random", Options: peft.Options{"init_weights": false, "rank": 3, "theta_d_length": 37, "proj_seed": 5}},
		{Name: "more numbers than most places", Options: peft.Options{"init_weights": false, "rank": 1, "theta_d_length": 100, "target_modules": "q_proj"}},
		{Name: "indices", Options: peft.Options{"init_weights": false, "save_indices": true}},
		{Name: "dropout", Options: peft.Options{"init_weights": false, "dropout": 1e-9}},
		{Name: "many rows", Options: peft.Options{"init_weights": false}, Batch: pefttest.Many},
		{Name: "gpt2, biases", Model: testmodel.GPT2(), Options: peft.Options{"init_weights": false, "bias": "unilora_only"}},
		{Name: "bert", Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"rank": 0}, {"theta_d_length": 0}, {"proj_seed": -1}, {"dropout": 1}, {"init_theta_d_bound": -1}, {"target_modules": "embed_tokens"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = unilora.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
