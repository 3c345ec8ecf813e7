package supertuning_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/supertuning"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, supertuning.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"sparsity": 0.9}},
		{Name: "smallest, random", Options: peft.Options{"sparsity": 0.95, "select_top": false, "init_weights": false, "target_modules": "q_proj"}},
		{Name: "with LoRA", Identity: true, Options: peft.Options{"sparsity": 0.9, "rank": 2, "alpha": 3}},
		{Name: "with LoRA, random, no indices", Options: peft.Options{"sparsity": 0.9, "rank": 2, "init_weights": false, "save_precomputed_indices": false}},
		{Name: "no indices", Identity: true, Options: peft.Options{"sparsity": 0.9, "save_precomputed_indices": false}},
		{Name: "many", Identity: true, Options: peft.Options{"sparsity": 0.4, "rank": 1}, Batch: pefttest.Many},
		{Name: "all", Identity: true, Options: peft.Options{"sparsity": 0, "target_modules": "down_proj"}},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"sparsity": 0.9, "target_modules": "lm_head"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"sparsity": 0.95, "rank": 2, "save_precomputed_indices": false}},
		{Name: "gpt2, many", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"sparsity": 0.5}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"sparsity": 0.9}},
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
	for _, c := range []struct {
		o    peft.Options
		says string
	}{
		{peft.Options{"sparsity": 1}, "sparsity is 1"},
		{peft.Options{"sparsity": -0.1}, "sparsity is -0.1"},
		{peft.Options{"sparsity": 0.9999}, "choose a lower one"},
		{peft.Options{"r": 0}, "r is 0"},
		{peft.Options{"r": 2.5}, "r"},
		{peft.Options{"alpha": 4}, "lora_alpha is 4 and r is not set"},
		{peft.Options{"r": 2, "lora_dropout": 1}, "lora_dropout is 1"},
		{peft.Options{"lora_dropout": 0.1}, "lora_dropout is 0.1 and r is not set"},
		{peft.Options{"target_modules": "embed_tokens"}, "linear"},
	} {
		_, err := supertuning.Method.New(build(t), c.o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", c.o)
		require.ErrorContains(t, err, c.says)
	}
	// A weight that another method trains is not what it was when the file is loaded.
	m := build(t)
	for _, x := range m.Modules {
		x.Weight().Unfreeze()
	}
	_, err := supertuning.Method.New(m, peft.Options{"save_precomputed_indices": false}, 1)
	require.ErrorIs(t, err, peft.ErrConfig)
	_, err = supertuning.Method.New(m, nil, 1)
	require.NoError(t, err)
}

// saved is a file of one module.
func saved(t *testing.T, o peft.Options) *formats.Adapter {
	o["target_modules"] = "regex:.*layers.0.*q_proj"
	ad, err := supertuning.Method.New(build(t), o, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

// PEFT chooses LoRA's alpha and writes it.
func TestAlpha(t *testing.T) {
	var cfg map[string]any
	require.NoError(t, json.Unmarshal(saved(t, peft.Options{"r": 3}).Config, &cfg))
	require.EqualValues(t, 6, cfg["lora_alpha"])
}

// Indices that do not fit are told, and those that a file should not have.
func TestIndices(t *testing.T) {
	replace := func(f func(t *tensor.Tensor) *tensor.Tensor, o peft.Options) error {
		a := saved(t, o)
		var list []*tensor.Tensor
		for _, x := range a.Tensors {
			if strings.HasSuffix(x.Name, "indices") {
				x = f(x)
			}
			if x != nil {
				list = append(list, x)
			}
		}
		a.Tensors = list
		_, err := supertuning.Method.Load(build(t), a, 1)
		return err
	}
	number := func(v ...float32) func(t *tensor.Tensor) *tensor.Tensor {
		return func(t *tensor.Tensor) *tensor.Tensor {
			all := make([]float32, t.Shape[0])
			copy(all, v)
			return tensor.FromFloats(t.Name, t.Shape, all)
		}
	}
	few := peft.Options{"sparsity": 0.995}
	require.NoError(t, replace(number(4, 1023), few))
	for _, f := range []func(t *tensor.Tensor) *tensor.Tensor{
		number(1024), number(-1), number(1e20),
		func(*tensor.Tensor) *tensor.Tensor { return nil },
		func(x *tensor.Tensor) *tensor.Tensor { return tensor.FromFloats(x.Name, []int{1}, []float32{0}) },
	} {
		err := replace(f, few)
		require.ErrorIs(t, err, peft.ErrTensors)
		require.ErrorContains(t, err, "supertuning_indices")
	}
	a := saved(t, few)
	a.Config = []byte(strings.Replace(string(a.Config), `"save_precomputed_indices": true`, `"save_precomputed_indices": false`, 1))
	_, err := supertuning.Method.Load(build(t), a, 1)
	require.ErrorIs(t, err, peft.ErrTensors)
}
