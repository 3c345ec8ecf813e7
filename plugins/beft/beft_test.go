package beft_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/beft"
)

func TestConformance(t *testing.T) {
	biased := testmodel.Default()
	biased.Bias = true
	pefttest.Run(t, beft.Method, []pefttest.Case{
		{Name: "values", Identity: true, Model: biased},
		{Name: "random, many rows", Model: biased, Options: peft.Options{"init_weights": false, "target_modules": "q_proj,o_proj"}, Batch: pefttest.Many},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2()},
		{Name: "qwen2", Identity: true, Model: testmodel.Qwen2()},
		{Name: "bart", Identity: true, Model: testmodel.BART()},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}},
	})
}

func build(t *testing.T) (*model.Checkpoint, *model.Model) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return ck, m
}

// A model without biases is trained all the same; there is nothing to merge into.
func TestWithoutBiases(t *testing.T) {
	ck, m := build(t)
	ad, err := beft.Method.New(m, peft.Options{"init_weights": false}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	_, again := build(t)
	_, err = peft.Attach(again, dir, 0.5)
	require.NoError(t, err)
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	_, err = beft.Method.Changes(a, ck, 1)
	require.ErrorIs(t, err, peft.ErrNotMergeable)
	require.ErrorContains(t, err, "v_proj")
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{{"init_weights": "zero"}, {"target_modules": "embed_tokens"}, {"target_modules": "norm"}} {
		_, m := build(t)
		_, err := beft.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
	_, m := build(t)
	_, err := beft.Method.New(m, peft.Options{"target_modules": "value"}, 1)
	require.ErrorIs(t, err, peft.ErrNoMatch)
}
