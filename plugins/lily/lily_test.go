package lily_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/lily"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, lily.Method, []pefttest.Case{
		{Name: "llama", WholeText: true, Identity: true, Options: peft.Options{"rank": 4}},
		{Name: "shared", WholeText: true, Identity: true, Options: peft.Options{"rank": 3, "stride_A": 2, "num_B": 3, "target_modules": "q_proj,k_proj,down_proj"}},
		{Name: "regex", WholeText: true, Identity: true, Options: peft.Options{"rank": 3, "stride_A": 3, "target_modules": `regex:.*\.[qkvo]_proj`}},
		{Name: "random", WholeText: true, Options: peft.Options{"rank": 4, "init_weights": false, "scaling": 0.7}},
		{Name: "many rows", WholeText: true, Options: peft.Options{"rank": 4, "init_weights": false}, Batch: pefttest.Many},
		{Name: "gpt2", WholeText: true, Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 4}},
		{Name: "t5", WholeText: true, Identity: true, Model: testmodel.T5(), Options: peft.Options{"rank": 4, "stride_A": 2}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 4}},
	})
}

func build(t *testing.T) *model.Model {
	source := testmodel.Default()
	source.Untied = true
	ck, err := model.FromFile(source.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	var names []any
	for range 20 {
		names = append(names, "q_proj")
	}
	for _, o := range []peft.Options{
		{"rank": 0}, {"stride_A": 0}, {"num_B": 1}, {"target_modules": "embed_tokens"}, {"target_modules": "lm_head"}, {"target_modules": names}, {"scaling": "x"},
	} {
		_, err := lily.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// What is shared is trained once, saved under every name, and must be the same there.
func TestShared(t *testing.T) {
	ad, err := lily.Method.New(build(t), peft.Options{"rank": 2, "target_modules": "q_proj", "stride_A": 2}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(t.Context(), dir, ad, nil))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	require.Len(t, a.Tensors, 3*2)
	require.Len(t, ad.Params(), 2+2)
	_, err = lily.Method.Load(build(t), a, 1)
	require.NoError(t, err)
	for i, x := range a.Tensors {
		if x.Name != "base_model.model.model.layers.1.self_attn.q_proj.lily_B.weight" {
			continue
		}
		v, err := x.AllFloats()
		require.NoError(t, err)
		v[3]++
		a.Tensors[i] = tensor.FromFloats(x.Name, x.Shape, v)
	}
	_, err = lily.Method.Load(build(t), a, 1)
	require.ErrorIs(t, err, peft.ErrTensors)
	require.ErrorContains(t, err, "differ")
	_, err = peft.Changes(a, nil, 1)
	require.ErrorIs(t, err, peft.ErrNotMergeable)
}
