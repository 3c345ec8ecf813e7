package frod_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/frod"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, frod.Method, []pefttest.Case{
		{Name: "defaults", Identity: true},
		{Name: "random", Options: peft.Options{"sparse_rate": 0.2, "init_weights": false, "target_modules": "q_proj,down_proj"}},
		{Name: "all elements", Options: peft.Options{"sparse_rate": 1, "init_weights": false, "projection_prng_key": 3, "target_modules": "k_proj"}},
		{Name: "diagonal alone", Identity: true, Options: peft.Options{"sparse_rate": 0}},
		{Name: "many rows", Identity: true, Options: peft.Options{"sparse_rate": 0.1}, Batch: pefttest.Many},
		{Name: "beside the weight", Identity: true, Options: peft.Options{"frod_dropout": 1e-9, "sparse_rate": 0.1}}, // which drops nothing
		{Name: "fewer rows than columns", Identity: true, Options: peft.Options{"layers_to_transform": 1, "target_modules": "k_proj,down_proj"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"bias": "frod_only"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}},
	})
}

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{
		{"sparse_rate": -0.1}, {"sparse_rate": 1.1}, {"regularization_alpha": 0}, {"frod_dropout": 1}, {"save_projection": false},
		{"target_modules": "embed_tokens"}, {"target_modules": "norm"}, {"projection_prng_key": "x"},
	} {
		_, err := frod.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Files whose shared tensors do not fit.
func TestBrokenFile(t *testing.T) {
	ad, err := frod.Method.New(build(t), peft.Options{"target_modules": "q_proj"}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(t.Context(), dir, ad, nil))
	filled := func(v float32) func(*tensor.Tensor) *tensor.Tensor {
		return func(x *tensor.Tensor) *tensor.Tensor {
			list := make([]float32, x.Shape[0]*x.Shape[len(x.Shape)-1])
			for i := range list {
				list[i] = v
			}
			return tensor.FromFloats(x.Name, x.Shape, list)
		}
	}
	const v, size, indices = "base_model.frod_V.self_attn_q_proj", "base_model.frod_s_size.self_attn_q_proj", "base_model.frod_s_indices.self_attn_q_proj"
	for _, c := range []struct {
		name   string
		change func(*tensor.Tensor) *tensor.Tensor
	}{
		{v, func(*tensor.Tensor) *tensor.Tensor { return nil }},
		{v, func(x *tensor.Tensor) *tensor.Tensor { return tensor.FromFloats(x.Name, []int{2}, []float32{1, 2}) }},
		{v, filled(float32(math.NaN()))},
		{size, func(*tensor.Tensor) *tensor.Tensor { return nil }},
		{size, func(x *tensor.Tensor) *tensor.Tensor { return tensor.FromFloats(x.Name, []int{2}, []float32{3, 3}) }},
		{indices, filled(1000)},
		{indices, func(x *tensor.Tensor) *tensor.Tensor { return tensor.FromFloats(x.Name, []int{2, 1}, []float32{1, 2}) }},
	} {
		name, change := c.name, c.change
		a, err := formats.OpenAdapter(dir)
		require.NoError(t, err)
		var kept []*tensor.Tensor
		found := false
		for _, x := range a.Tensors {
			if x.Name == name {
				found = true
				if x = change(x); x == nil {
					continue
				}
			}
			kept = append(kept, x)
		}
		require.True(t, found, name)
		a.Tensors = kept
		_, err = frod.Method.Load(build(t), a, 1)
		require.ErrorIs(t, err, peft.ErrTensors, name)
		require.ErrorContains(t, err, name)
		require.NoError(t, a.Close())
	}
}
