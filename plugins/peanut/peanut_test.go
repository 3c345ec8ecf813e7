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

// The activations are smooth: one change of A or of a hidden layer moves so many units
// that with relu, the default, some always bend within a difference.
func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, peanut.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 4, "act_fn": "silu"}},
		{Name: "scaling", Identity: true, Options: peft.Options{"rank": 4, "scaling": 0.7, "act_fn": "tanh"}},
		{Name: "deep", Identity: true, Options: peft.Options{"rank": 4, "depth": 2, "act_fn": "gelu"}},
		{Name: "random", Options: peft.Options{"rank": 3, "depth": 1, "act_fn": "silu", "init_weights": false}},
		{Name: "many rows", Options: peft.Options{"rank": 3, "act_fn": "sigmoid", "init_weights": false, "scaling": 0.5}, Batch: pefttest.Many},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"rank": 3, "target_modules": "lm_head", "act_fn": "tanh"}},
		{Name: "gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "depth": 1, "act_fn": "gelu_new", "init_weights": false}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 4, "act_fn": "swish"}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for want, o := range map[string]peft.Options{
		"r is 0": {"rank": 0}, "depth is -1": {"depth": -1}, "depth is 1025": {"depth": 1025}, "depth times r times r": {"depth": 2, "rank": 65536},
		`act_fn is "xielu"`: {"act_fn": "xielu"}, "bias": {"bias": "all"},
		"linear layers": {"target_modules": "norm"}, "embed_tokens": {"target_modules": "embed_tokens"},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = peanut.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
		require.ErrorContains(t, err, want)
	}
}
