package ptuning_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/peft/prompts"
	"github.com/peftkit/peftkit/plugins/ptuning"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, ptuning.Method, []pefttest.Case{
		{Name: "MLP", Options: peft.Options{"virtual-tokens": 4}},
		{Name: "LSTM", Options: peft.Options{"virtual-tokens": 4, "prompt-encoder": "LSTM", "encoder_hidden_size": 12}},
		{Name: "one layer", Options: peft.Options{"virtual-tokens": 1, "prompt-encoder": "LSTM", "encoder_num_layers": 1}},
		{Name: "classifier", Model: testmodel.BERT(3), Options: peft.Options{"virtual-tokens": 4}},
		{Name: "T5", Model: testmodel.T5(), Options: peft.Options{"virtual-tokens": 4}},
		{Name: "seq2seq", Model: testmodel.BART(), Options: peft.Options{"virtual-tokens": 4}},
	})
}

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// A saved adapter is its embeddings alone; a file that holds the network goes on
// training it.
func TestNetworkInFile(t *testing.T) {
	ad, err := ptuning.Method.New(build(t), peft.Options{"virtual-tokens": 4}, 1)
	require.NoError(t, err)
	require.Len(t, ad.Params(), 7)
	dir := t.TempDir()
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	f, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer f.Close()
	require.Len(t, f.Tensors, 1)
	plain, err := ptuning.Method.Load(build(t), f, 1)
	require.NoError(t, err)
	require.Len(t, plain.Params(), 1)
	require.Equal(t, prompts.Saved, plain.Params()[0].Name)

	for _, p := range ad.Params() {
		f.Tensors = append(f.Tensors, tensor.FromFloats(p.Name, p.Shape, p.V.Data))
	}
	full, err := ptuning.Method.Load(build(t), f, 1)
	require.NoError(t, err)
	require.Len(t, full.Params(), 7)
	out, err := peft.Tensors(full)
	require.NoError(t, err)
	require.Len(t, out, 1)

	_, err = ptuning.Method.Load(build(t), f, 0.5)
	require.ErrorIs(t, err, peft.ErrConfig)
}

func TestRefuses(t *testing.T) {
	for name, o := range map[string]peft.Options{
		"network": {"prompt-encoder": "GRU"}, "hidden": {"encoder_hidden_size": 0},
		"layers": {"encoder_num_layers": 0}, "dropout": {"encoder_dropout": 1.0},
	} {
		_, err := ptuning.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, name)
	}
}
