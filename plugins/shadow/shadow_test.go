package shadow_test

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/prompttuning"
	"github.com/peftkit/peftkit/plugins/shadow"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	o := func(more ...any) peft.Options {
		out := peft.Options{"r": 4, "shadow_alpha": 0.7}
		for i := 0; i < len(more); i += 2 {
			out[more[i].(string)] = more[i+1]
		}
		return out
	}
	classes := model.Options{Task: model.SequenceClassification, Labels: []string{"a", "b"}}
	regression := model.Options{Task: model.SequenceClassification, Labels: []string{"a"}}
	pefttest.Run(t, shadow.Method, []pefttest.Case{
		{Name: "defaults", Options: peft.Options{}, Identity: true},
		{Name: "not still", Options: o("init_weights", false, "update_hidden_size", 5)},
		{Name: "narrow", Options: o("shadow_hidden_size", 16, "shadow_intermediate_size", 24, "shadow_num_attention_heads", 2), Identity: true},
		{Name: "embeddings of its own", Options: o("share_embeddings", false, "shadow_num_hidden_layers", 2), Identity: true},
		{Name: "one block", Options: o("target_modules", "layers.1"), Identity: true},
		{Name: "no loss of its own", Options: o("auxiliary_loss_weight", 0), Identity: true},
		{Name: "GPT2", Model: testmodel.GPT2(), Options: o(), Identity: true},
		{Name: "GPT2 narrow", Model: testmodel.GPT2(), Options: o("shadow_hidden_size", 16), Identity: true},
		{Name: "Gemma2", Model: testmodel.Gemma2(), Options: o(), Identity: true},
		{Name: "Qwen3", Model: testmodel.Qwen3(), Options: o(), Identity: true},
		{Name: "Phi3", Model: testmodel.Phi3(), Options: o(), Identity: true},
		{Name: "classifier", Build: classes, Options: o(), Identity: true},
		{Name: "classifier of GPT2", Model: testmodel.GPT2(), Build: classes, Options: o(), Identity: true},
		{Name: "tokens", Build: model.Options{Task: model.TokenClassification, Labels: []string{"a", "b", "c"}}, Options: o(), Identity: true},
		{Name: "regression", Build: regression, Options: o(), Identity: true, Batch: func(b *model.Batch) { b.Labels, b.Targets = nil, []float32{0.3, -1} }},
	})
}

func build(t *testing.T, s testmodel.Source, o model.Options) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, o)
	require.NoError(t, err)
	return m
}

// stir moves all parameters away from their start.
func stir(ad peft.Adapter) {
	for k, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] += 0.05 * float32(math.Sin(float64(13*k+7*i+1)))
		}
	}
}

// GPT-2's file has a table of embeddings that nothing reads: it is the model's.
func TestUnusedTable(t *testing.T) {
	m := build(t, testmodel.GPT2(), model.Options{})
	ad, err := shadow.Method.New(m, nil, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	f, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer f.Close()
	i := slices.IndexFunc(f.Tensors, func(t *tensor.Tensor) bool {
		return t.Name == "base_model.shadow_backbone.default.wte.weight"
	})
	require.GreaterOrEqual(t, i, 0)
	got, err := f.Tensors[i].AllFloats()
	require.NoError(t, err)
	want, err := m.Tensor("transformer.wte.weight").AllFloats()
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, p := range ad.Params() {
		require.NotContains(t, p.Name, "wte", "it is not trained")
	}
}

// With rows that another method puts before the text, in either order, and with a cache.
func TestBesidePrompt(t *testing.T) {
	for _, first := range []bool{true, false} {
		m := build(t, testmodel.Default(), model.Options{})
		prompt := func() {
			_, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 3}, 1)
			require.NoError(t, err)
		}
		if first {
			prompt()
		}
		ad, err := shadow.Method.New(m, peft.Options{"shadow_alpha": 0.8}, 1)
		require.NoError(t, err)
		stir(ad)
		if !first {
			prompt()
		}
		tape := nn.NewTape()
		defer tape.Close()
		tokens := []int32{3, 9, 14, 7}
		want := slices.Clone(m.Logits(tape, model.Sequence(tokens, 0), nil).Mat().Data)
		cache := m.NewCache(2)
		for i, id := range tokens {
			b := model.Sequence([]int32{id}, i)
			b.Cache = cache
			tape.Reset()
			require.InDeltaSlice(t, want[i*m.VocabSize:(i+1)*m.VocabSize], m.Logits(tape, b, nil).Mat().Data, bound.Output, "first %v, token %d", first, i)
		}
	}
}

// The loss is the model's and a share of what the shadow network has by itself.
func TestAuxiliaryLoss(t *testing.T) {
	b := model.Sequence([]int32{3, 9, 14, 7}, 0)
	b.Labels = []int32{9, 14, -100, 20}
	loss := func(weight float64) float64 {
		m := build(t, testmodel.Default(), model.Options{})
		_, err := shadow.Method.New(m, peft.Options{"auxiliary_loss_weight": weight}, 1)
		require.NoError(t, err)
		tape := nn.NewTape()
		defer tape.Close()
		sum, n := m.Loss(tape, b, 0)
		require.Equal(t, 3, n)
		return sum
	}
	plain := build(t, testmodel.Default(), model.Options{})
	tape := nn.NewTape()
	defer tape.Close()
	want, _ := plain.Loss(tape, b, 0)
	none, some, all := loss(0), loss(0.25), loss(1)
	require.InDelta(t, want, none, bound.Output)
	require.InDelta(t, 0.25*(all-none), some-none, bound.Output)
	require.Greater(t, all, none+1)
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		says string
		o    peft.Options
	}{
		{"r is 0", peft.Options{"r": 0}},
		{"shadow_hidden_size is 0", peft.Options{"shadow_hidden_size": 0}},
		{"shadow_dropout is 1", peft.Options{"shadow_dropout": 1}},
		{"leave out", peft.Options{"shadow_model": "x", "shadow_hidden_size": 16}},
		{"shadow_model has to be", peft.Options{"shadow_model": "x"}},
		{"auxiliary_loss_weight is -1", peft.Options{"auxiliary_loss_weight": -1}},
	} {
		_, err := shadow.Method.New(build(t, testmodel.Default(), model.Options{}), c.o, 1)
		require.ErrorIs(t, err, peft.ErrConfig)
		require.ErrorContains(t, err, c.says)
	}
	_, err := shadow.Method.New(build(t, testmodel.Default(), model.Options{}), peft.Options{"target_modules": "q_proj"}, 1)
	require.ErrorIs(t, err, peft.ErrNoMatch)
	_, err = shadow.Method.New(build(t, testmodel.Default(), model.Options{}), peft.Options{"shadow_num_attention_heads": 3}, 1)
	require.ErrorIs(t, err, model.ErrMismatch)
	for _, s := range []testmodel.Source{testmodel.BERT(2), testmodel.BART(), testmodel.T5()} {
		_, err := shadow.Method.New(build(t, s, model.Options{}), nil, 1)
		require.ErrorIs(t, err, peft.ErrNoFit)
	}

	raw, err := json.Marshal(map[string]any{"peft_type": "SHADOW", "shadow_model": "someone/else"})
	require.NoError(t, err)
	_, err = shadow.Method.Load(build(t, testmodel.Default(), model.Options{}), &formats.Adapter{Path: "x", Config: raw}, 1)
	require.ErrorIs(t, err, peft.ErrConfig)
	require.ErrorContains(t, err, "shadow_model")
}
