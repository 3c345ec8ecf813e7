package glora_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/glora"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	classify := model.Options{Task: model.SequenceClassification}
	pefttest.Run(t, glora.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 4}},
		{Name: "vector", Identity: true, Options: peft.Options{"config_A_B": "vector"}},
		{Name: "constant", Identity: true, Options: peft.Options{"config_A_B": "constant"}},
		{Name: "random", Options: peft.Options{"rank": 3, "init_weights": false}},
		{Name: "many rows", Options: peft.Options{"rank": 3, "init_weights": false}, Batch: pefttest.Many},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"rank": 3, "target_modules": "lm_head"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 4}},
		{Name: "gpt2 vector", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"config_A_B": "vector", "config_C": "vector", "config_D_E": "vector"}},
		{Name: "gpt2 biases", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"config_A_B": "none", "rank": 2}},
		{Name: "gpt2 trained biases", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"config_A_B": "constant", "bias": "glora_only", "rank": 2}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: classify, Options: peft.Options{"rank": 4, "config_D_E": "vector"}},
		{Name: "bert biases alone", Identity: true, Model: testmodel.BERT(2), Build: classify, Options: peft.Options{"config_A_B": "none", "config_C": "none", "bias": "all"}},
		{Name: "bert weights alone", Identity: true, Model: testmodel.BERT(2), Build: classify, Options: peft.Options{"config_A_B": "vector", "config_C": "none", "config_D_E": "none"}},
		{Name: "t5", Identity: true, Model: testmodel.T5(), Options: peft.Options{"rank": 4}},
	})
}

func build(t *testing.T, source testmodel.Source) *model.Model {
	ck, err := model.FromFile(source.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{
		{"rank": 0}, {"config_A_B": "full"}, {"config_C": "constant"}, {"config_D_E": "lora"}, {"config_A_B": "none"}, {"target_modules": "embed_tokens"},
		{"target_modules": "norm"}, {"bias": "lora"}, {"init_weights": "gaussian"},
	} {
		_, err := glora.Method.New(build(t, testmodel.Default()), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// A part that is nothing is zeros in the file, and nothing else.
func TestZeros(t *testing.T) {
	ad, err := glora.Method.New(build(t, testmodel.GPT2()), peft.Options{"config_A_B": "none", "config_C": "none", "target_modules": "c_attn"}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(t.Context(), dir, ad, nil))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	_, err = glora.Method.Load(build(t, testmodel.GPT2()), a, 1)
	require.NoError(t, err)
	spoilt := 0
	for i, x := range a.Tensors {
		if len(x.Shape) != 2 || x.Shape[1] == 1 || spoilt > 0 {
			continue
		}
		v, err := x.AllFloats()
		require.NoError(t, err)
		v[len(v)-1] = 1
		a.Tensors[i] = tensor.FromFloats(x.Name, x.Shape, v)
		spoilt++
	}
	require.Equal(t, 1, spoilt)
	_, err = glora.Method.Load(build(t, testmodel.GPT2()), a, 1)
	require.ErrorIs(t, err, peft.ErrTensors)
	require.ErrorContains(t, err, "other numbers than zeros")
}
