package prefixtuning_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/gemma"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/qwen3"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/prefixtuning"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, prefixtuning.Method, []pefttest.Case{
		{Name: "defaults"},
		{Name: "normal", Options: peft.Options{"virtual-tokens": 3, "prefix-projection": false, "init_weights": "normal"}},
		{Name: "zero", Options: peft.Options{"virtual-tokens": 3, "prefix-projection": false, "init_weights": "zero"}},
		{Name: "projection", Options: peft.Options{"virtual-tokens": 3, "prefix-projection": true, "encoder_hidden_size": 24}},
		{Name: "zero projection", Options: peft.Options{"virtual-tokens": 3, "prefix-projection": true, "init_weights": "zero"}},
		{Name: "GPT2", Model: testmodel.GPT2(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false}},
		{Name: "Gemma2", Model: testmodel.Gemma2(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false}},
		{Name: "Qwen3", Model: testmodel.Qwen3(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false}},
		{Name: "classifier", Model: testmodel.BERT(3), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false}},
		{Name: "seq2seq", Model: testmodel.BART(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false, "init_weights": "normal"}},
		{Name: "relative positions", Model: testmodel.T5(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false, "init_weights": "normal"}},
		{Name: "relative positions, all", Model: testmodel.T5Gated(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false, "prefix_placement": "all"}},
		{Name: "seq2seq, all", Model: testmodel.BART(), Options: peft.Options{"virtual-tokens": 4, "prefix-projection": false, "prefix_placement": "all"}},
		{Name: "seq2seq, all, projection", Model: testmodel.BART(), Options: peft.Options{"virtual-tokens": 4, "prefix_placement": "all", "prefix-projection": true}},
	})
}

func build(t *testing.T, s testmodel.Source) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// A prefix of the keys and values of a text is that text.
func TestPrefixIsCache(t *testing.T) {
	m := build(t, testmodel.Default())
	tape := nn.NewTape()
	tokens := []int32{7, 8, 9, 10, 11, 12}
	want := append([]float32(nil), m.Logits(tape, model.Sequence(tokens, 0), []int32{3, 4, 5}).Mat().Data...)
	cache := m.NewCache(8)
	b := model.Sequence(tokens[:3], 0)
	b.Cache = cache
	tape.Reset()
	m.Hidden(tape, b)

	ad, err := prefixtuning.Method.New(m, peft.Options{"virtual-tokens": 3, "prefix-projection": false}, 1)
	require.NoError(t, err)
	p := ad.Params()[0].V
	require.Equal(t, 2*m.Layers*m.KVSize, p.Cols)
	for l := range m.Layers {
		k, v := cache.Past(l)
		for i := range 3 {
			copy(p.Mat().Row(i)[2*l*m.KVSize:], k.Mat().Row(i))
			copy(p.Mat().Row(i)[(2*l+1)*m.KVSize:], v.Mat().Row(i))
		}
	}
	tape.Reset()
	got := m.Logits(tape, model.Sequence(tokens[3:], 0), nil)
	require.InDeltaSlice(t, want, got.Mat().Data, bound.Output)

	// With a cache of its own, in pieces: the prefix comes before it.
	cache = m.NewCache(8)
	for i, id := range tokens[3:] {
		b := model.Sequence([]int32{id}, i)
		b.Cache = cache
		tape.Reset()
		row := m.Logits(tape, b, nil).Mat().Row(0)
		require.InDeltaSlice(t, want[i*m.VocabSize:(i+1)*m.VocabSize], row, bound.Output)
	}
	require.Equal(t, 3, cache.Len())
}

func TestRefuses(t *testing.T) {
	for name, o := range map[string]peft.Options{
		"no tokens":      {"virtual-tokens": 0},
		"start":          {"init_weights": "ones"},
		"placement":      {"prefix_placement": "encoder"},
		"no such stacks": {"prefix_placement": "all"},
		"hidden":         {"encoder_hidden_size": -1},
	} {
		_, err := prefixtuning.Method.New(build(t, testmodel.Default()), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, name)
	}
}
