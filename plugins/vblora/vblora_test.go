package vblora_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/vblora"
)

func TestConformance(t *testing.T) {
	// A step of finite differences must not change which vectors are chosen.
	wide := peft.Options{"num_vectors": 3, "topk": 2, "init_logits_std": 2, "init_vector_bank_bound": 0.1}
	with := func(more peft.Options) peft.Options {
		out := maps.Clone(wide)
		maps.Copy(out, more)
		return out
	}
	pefttest.Run(t, vblora.Method, []pefttest.Case{
		{Name: "choice", Options: wide},
		{Name: "all", Options: with(peft.Options{"topk": 3, "vector_length": 4, "target_modules": "q_proj,down_proj", "init_vector_bank_bound": 0.3})},
		{Name: "bert", Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: wide},
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
	for _, o := range []peft.Options{{"r": 0}, {"topk": 0}, {"topk": 300}, {"num_vectors": 0}, {"vector_length": 7}, {"vblora_dropout": 1}} {
		_, err := vblora.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// The short form keeps all weights of a mixture but the last, which is what is
// left of one: its numbers come back within rounding, and cannot be trained on.
func TestShortForm(t *testing.T) {
	for _, o := range []peft.Options{{"num_vectors": 300, "topk": 1}, {"num_vectors": 20, "topk": 3}} {
		o["save_only_topk_weights"], o["init_vector_bank_bound"] = true, 0.3
		m := build(t)
		ad, err := vblora.Method.New(m, o, 1)
		require.NoError(t, err)
		require.NoError(t, ad.(peft.Stepper).Begin(0, 10))
		want := logits(m)
		one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
		require.NoError(t, peft.Save(t.Context(), one, ad, nil))

		again := build(t)
		loaded, err := peft.Attach(again, one, 1)
		require.NoError(t, err)
		require.ErrorIs(t, loaded.(peft.Stepper).Begin(0, 10), peft.ErrConfig)
		got := logits(again)
		for i := range want {
			require.InDelta(t, want[i], got[i], bound.Output)
		}
		require.NoError(t, peft.Save(t.Context(), two, loaded, nil))
		first, err := os.ReadFile(filepath.Join(one, "adapter_model.safetensors"))
		require.NoError(t, err)
		second, err := os.ReadFile(filepath.Join(two, "adapter_model.safetensors"))
		require.NoError(t, err)
		require.Equal(t, first, second)
	}
}

func logits(m *model.Model) []float32 {
	b := &model.Batch{Seqs: []nn.Span{{Start: 0, End: 6}}, Tokens: []int32{1, 5, 3, 2, 9, 4}, Pos: []int32{0, 1, 2, 3, 4, 5}}
	out := m.Logits(nn.NewTape(), b, nil)
	return append([]float32(nil), out.Data...)
}
