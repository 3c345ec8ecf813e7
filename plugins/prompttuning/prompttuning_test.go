package prompttuning_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/gemma"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/qwen3"
	_ "github.com/peftkit/peftkit/model/roberta"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/prompttuning"
)

func TestConformance(t *testing.T) {
	small := peft.Options{"num_virtual_tokens": 4}
	pefttest.Run(t, prompttuning.Method, []pefttest.Case{
		{Name: "defaults"},
		{Name: "random", Options: peft.Options{"virtual-tokens": 3, "prompt-init": "RANDOM"}},
		{Name: "seq2seq", Model: testmodel.BART(), Options: small},
		{Name: "GPT2", Model: testmodel.GPT2(), Options: small},
		{Name: "Gemma2", Model: testmodel.Gemma2(), Options: small},
		{Name: "Qwen3", Model: testmodel.Qwen3(), Options: small},
		{Name: "classifier", Model: testmodel.BERT(3), Options: small},
		{Name: "classifier with a deep head", Model: testmodel.RoBERTa(2), Options: small},
		{Name: "T5", Model: testmodel.T5(), Options: small},
		{Name: "scaled embeddings", Model: testmodel.Marian(), Options: small},
	})
}

func build(t *testing.T, s testmodel.Source, o model.Options) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, o)
	require.NoError(t, err)
	return m
}

func TestText(t *testing.T) {
	m := build(t, testmodel.Default(), model.Options{})
	ad, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 5, "prompt-text": "some words"}, 1)
	require.NoError(t, err)
	require.ErrorIs(t, ad.(peft.Stepper).Begin(0, 1), peft.ErrConfig, "without tokens there is nothing to begin with")
	start := ad.(peft.TextStarter)
	require.Equal(t, []string{"some words"}, start.StartTexts())
	require.Error(t, start.StartTokens([][]int32{{1, 99}}))
	require.NoError(t, start.StartTokens([][]int32{{7, 8, 9}}))
	require.NoError(t, ad.(peft.Stepper).Begin(0, 1))
	tape := nn.NewTape()
	want := m.Inputs[0].Embedding.Forward(tape, []int32{7, 8, 9, 7, 8})
	require.Equal(t, want.Mat().Data, ad.Params()[0].V.Data)
	raw, err := ad.Config()
	require.NoError(t, err)
	require.Contains(t, string(raw), `"prompt_tuning_init": "TEXT"`)
	require.Contains(t, string(raw), `"tokenizer_name_or_path": "testmodel"`)
}

// A prompt of copied embeddings is the text that it was copied from.
func TestPromptIsText(t *testing.T) {
	m := build(t, testmodel.Default(), model.Options{})
	tape := nn.NewTape()
	whole := model.Sequence([]int32{7, 8, 9, 10, 11, 12}, 0)
	want := append([]float32(nil), m.Logits(tape, whole, []int32{3, 4, 5}).Mat().Data...)
	all := model.Sequence([]int32{7, 8, 9, 10, 11}, 0)
	all.Labels = []int32{-100, -100, 10, 11, 12}
	tape.Reset()
	loss, n := m.Loss(tape, all, 0)
	require.Equal(t, 3, n)

	ad, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 3, "prompt-text": "x"}, 1)
	require.NoError(t, err)
	require.NoError(t, ad.(peft.TextStarter).StartTokens([][]int32{{7, 8, 9}}))
	require.Equal(t, 125, m.MaxPositions)
	tape.Reset()
	got := m.Logits(tape, model.Sequence([]int32{10, 11, 12}, 0), nil)
	require.InDeltaSlice(t, want, got.Mat().Data, 1e-5)

	// The last row of the prompt predicts the first token.
	rest := model.Sequence([]int32{10, 11}, 0)
	rest.Labels, rest.First = []int32{11, 12}, []int32{10}
	tape.Reset()
	same, n := m.Loss(tape, rest, 0)
	require.Equal(t, 3, n)
	require.InDelta(t, loss, same, 1e-5)

	// With a cache, in pieces.
	cache := m.NewCache(1)
	for i, piece := range [][]int32{{10}, {11}, {12}} {
		b := model.Sequence(piece, i)
		b.Cache = cache
		tape.Reset()
		row := m.Logits(tape, b, nil).Mat().Row(0)
		require.InDeltaSlice(t, want[i*m.VocabSize:(i+1)*m.VocabSize], row, 1e-5)
	}
	require.Equal(t, 6, cache.Len())
	m.Detach()
	require.Equal(t, 128, m.MaxPositions)
}

func TestRefuses(t *testing.T) {
	for name, o := range map[string]peft.Options{
		"no tokens":       {"virtual-tokens": 0},
		"too many tokens": {"virtual-tokens": 128},
		"unknown start":   {"prompt-init": "ZEROS"},
		"no text":         {"prompt-init": "TEXT"},
		"no such option":  {"r": 3},
	} {
		_, err := prompttuning.Method.New(build(t, testmodel.Default(), model.Options{}), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, name)
	}
}
