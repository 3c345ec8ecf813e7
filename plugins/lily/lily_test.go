package lily_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/lily"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, lily.Method, []pefttest.Case{
		{Name: "llama", Identity: true, WholeText: true, Options: peft.Options{"rank": 4}},
		{Name: "shared by two", Identity: true, WholeText: true, Options: peft.Options{"rank": 4, "stride_A": 2, "num_B": 3, "scaling": 2}},
		{Name: "random", WholeText: true, Options: peft.Options{"rank": 3, "init_weights": false, "target_modules": "q_proj,down_proj"}},
		{Name: "many rows", WholeText: true, Options: peft.Options{"rank": 3, "init_weights": false}, Batch: pefttest.Many},
		{Name: "regular expression", WholeText: true, Options: peft.Options{"rank": 3, "init_weights": false, "target_modules": `regex:.*\.(q|v)_proj`}},
		{Name: "gpt2", Model: testmodel.GPT2(), WholeText: true, Options: peft.Options{"rank": 4, "init_weights": false}},
		{Name: "bert", Identity: true, WholeText: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 4}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"rank": 0}, {"stride_A": 0}, {"num_B": 0}, {"target_modules": "embed_tokens"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = lily.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Layers share what the options say, and the number of parameters counts it once.
func TestShares(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	ad, err := lily.Method.New(m, peft.Options{"rank": 4, "stride_A": 2, "num_B": 3, "target_modules": "q_proj"}, 1)
	require.NoError(t, err)
	h := m.HiddenSize
	require.Equal(t, int64((m.Layers+1)/2*4*h+3*4*h+m.Layers*3*4), peft.Elements(ad.Params()))
	tensors, err := peft.Tensors(ad)
	require.NoError(t, err)
	require.Len(t, tensors, 3*m.Layers)
}
