package trainabletokens_test

import (
	"encoding/json"
	"slices"
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
		{Name: "t5", Identity: true, Model: testmodel.T5(), Options: peft.Options{"tokens": "[3, 10]"}},
		{Name: "t5 named", Identity: true, Model: testmodel.T5(), Options: peft.Options{"tokens": "[3, 10]", "target_modules": "regex:shared"}},
		{Name: "bart", Identity: true, Model: testmodel.BART(), Options: peft.Options{"tokens": "[3, 10]", "target_modules": "shared"}},
		{Name: "marian", Identity: true, Model: testmodel.Marian(), Options: peft.Options{"tokens": "[3, 10]"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"tokens": "[3, 10]"}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"tokens": "[1, 1]"}, {"tokens": "[-1]"}, {"tokens": "[100000]"}, {"tokens": "[1]", "target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = trainabletokens.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Without tokens the most frequent of the data are trained, in either order of the
// examples the same.
func TestChosen(t *testing.T) {
	for _, of := range []testmodel.Source{testmodel.Default(), testmodel.T5()} {
		ck, err := model.FromFile(of.HF())
		require.NoError(t, err)
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		ad, err := trainabletokens.Method.New(m, peft.Options{}, 1)
		require.NoError(t, err)
		require.Zero(t, peft.Elements(ad.Params()))
		start := ad.(peft.DataStarter).StartData
		require.ErrorIs(t, start(slices.Values([][]int32{{}})), peft.ErrConfig)
		require.NoError(t, start(slices.Values([][]int32{{9, 3, 3}, {9, 4}})))
		require.NoError(t, start(slices.Values([][]int32{{5}})), "chosen is chosen")
		require.Equal(t, []int{3, 32}, ad.Params()[0].Shape)
		require.Contains(t, ad.Summary(), "3 trained tokens, all of the training data")
		raw, err := ad.Config()
		require.NoError(t, err)
		var c struct {
			Tokens []int `json:"token_indices"`
		}
		require.NoError(t, json.Unmarshal(raw, &c))
		require.Equal(t, []int{3, 4, 9}, c.Tokens)
		row := make([]float32, 32)
		m.Inputs[0].Embedding.W.Row(row, 4)
		require.Equal(t, row, ad.Params()[0].V.Data[32:64])
	}
}

// More tokens than are trained: the most frequent ones.
func TestMostFrequent(t *testing.T) {
	of := testmodel.Default()
	of.Vocab = 300
	ck, err := model.FromFile(of.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	ad, err := trainabletokens.Method.New(m, peft.Options{}, 1)
	require.NoError(t, err)
	var text []int32
	for i := range int32(250) {
		text = append(text, i)
		if i >= 200 {
			text = append(text, i)
		}
	}
	require.NoError(t, ad.(peft.DataStarter).StartData(slices.Values([][]int32{text})))
	raw, err := ad.Config()
	require.NoError(t, err)
	var c struct {
		Tokens []int `json:"token_indices"`
	}
	require.NoError(t, json.Unmarshal(raw, &c))
	require.Len(t, c.Tokens, 100)
	require.Equal(t, []int{49, 200, 249}, []int{c.Tokens[49], c.Tokens[50], c.Tokens[99]})
	require.Contains(t, ad.Summary(), "the most frequent of the 250")
	n, err := peft.Size(trainabletokens.Method, m, peft.Options{}, 1)
	require.NoError(t, err)
	require.Equal(t, peft.Elements(ad.Params()), n)
}

// What has no meaning in a file of PEFT is refused.
func TestNoFit(t *testing.T) {
	for _, of := range []testmodel.Source{testmodel.T5(), testmodel.BART()} {
		ck, err := model.FromFile(of.HF())
		require.NoError(t, err)
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = trainabletokens.Method.New(m, peft.Options{"tokens": "[5]", "target_modules": "embed_tokens"}, 1)
		require.ErrorIs(t, err, peft.ErrConfig)
		require.ErrorContains(t, err, "shared")
	}
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	ad, err := trainabletokens.Method.New(m, peft.Options{"init_weights": false}, 1)
	require.NoError(t, err)
	require.ErrorIs(t, ad.(peft.DataStarter).StartData(slices.Values([][]int32{{5}})), peft.ErrConfig)
}
