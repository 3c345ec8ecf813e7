package trainabletokens_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/trainabletokens"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, trainabletokens.Method, []pefttest.Case{
		{Name: "tied", Identity: true, Options: peft.Options{"tokens": "[3, 10, 17]"}},
		{Name: "both named", Identity: true, Options: peft.Options{"tokens": "[10, 3]", "target_modules": "embed_tokens,lm_head"}},
		{Name: "untied", Identity: true, Model: untied, Options: peft.Options{"tokens": "[10, 17]"}},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"tokens": "[1, 6]", "target_modules": "lm_head"}},
		{Name: "random", Options: peft.Options{"tokens": "[3]", "init_weights": false}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"tokens": "[3, 10]"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"tokens": "[3, 10]"}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{}, {"tokens": "[]"}, {"tokens": "[1, 1]"}, {"tokens": "[-1]"}, {"tokens": "[100000]"}, {"tokens": "[1]", "target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = trainabletokens.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Encoder-decoder models are refused by name.
func TestNoFit(t *testing.T) {
	ck, err := model.FromFile(testmodel.T5().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"tokens": "[5]"}, {"tokens": "[5]", "target_modules": "embed_tokens"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = trainabletokens.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrNoFit)
	}
}
