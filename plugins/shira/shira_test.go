package shira_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/shira"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, shira.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 2}},
		{Name: "seed, random", Options: peft.Options{"rank": 3, "random_seed": 42, "init_weights": false, "target_modules": "q_proj"}},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"rank": 1, "target_modules": "lm_head"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 2}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 1}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"rank": 0}, {"rank": 64}, {"mask_type": "own"}, {"random_seed": -1}, {"target_modules": "embed_tokens"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = shira.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
