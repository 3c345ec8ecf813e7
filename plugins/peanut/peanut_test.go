package peanut_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/peanut"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, peanut.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 4, "act_fn": "gelu"}},
		{Name: "relu", Options: peft.Options{"rank": 4, "init_weights": false}},
		{Name: "deep", Options: peft.Options{"rank": 4, "depth": 2, "scaling": 2, "act_fn": "tanh", "init_weights": false}},
		{Name: "mish", Options: peft.Options{"rank": 4, "depth": 1, "act_fn": "mish", "init_weights": false}},
		{Name: "quick gelu", Options: peft.Options{"rank": 4, "depth": 1, "act_fn": "quick_gelu", "init_weights": false}},
		{Name: "many rows", Options: peft.Options{"rank": 3, "act_fn": "silu", "init_weights": false}, Batch: pefttest.Many},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 4, "act_fn": "gelu_accurate"}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"rank": 0}, {"depth": -1}, {"act_fn": "xielu"}, {"target_modules": "embed_tokens"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = peanut.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
	ck, err = model.FromFile(testmodel.GPT2().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	_, err = peanut.Method.New(m, nil, 1)
	require.ErrorIs(t, err, peft.ErrNoFit)
}
