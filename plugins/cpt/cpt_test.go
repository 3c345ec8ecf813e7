package cpt_test

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/cpt"
	"github.com/peftkit/peftkit/plugins/prompttuning"
)

// Two examples: a template, an input, an answer of two tokens; an input and an answer.
var (
	ids   = []any{3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0}
	types = []any{1.0, 2.0, 3.0, 4.0, 4.0, 0.0, 6.0, 8.0}
)

func with(more ...any) peft.Options {
	o := peft.Options{"cpt_token_ids": ids, "cpt_tokens_type_mask": types, "opt_projection_epsilon": 100, "opt_projection_format_epsilon": 100}
	for i := 0; i < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
	}
	return o
}

func TestConformance(t *testing.T) {
	pefttest.Run(t, cpt.Method, []pefttest.Case{
		{Name: "defaults", Options: peft.Options{}},
		{Name: "context", Options: with()},
		{Name: "no decay", Options: with("opt_weighted_loss_type", "none")},
		{Name: "GPT2", Model: testmodel.GPT2(), Options: with("opt_loss_decay_factor", 0.5)},
		{Name: "Gemma2", Model: testmodel.Gemma2(), Options: with()},
		{Name: "Qwen3", Model: testmodel.Qwen3(), Options: with()},
	})
}

func build(t *testing.T, s testmodel.Source, o model.Options) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, o)
	require.NoError(t, err)
	return m
}

// loss is that of tokens of which some are labelled.
func loss(t *testing.T, m *model.Model, tokens []int32, labelled ...int) float64 {
	b := model.Sequence(tokens[:len(tokens)-1], 0)
	for i := range b.Tokens {
		label := int32(-100)
		if slices.Contains(labelled, i+1) {
			label = tokens[i+1]
		}
		b.Labels = append(b.Labels, label)
	}
	tape := nn.NewTape()
	defer tape.Close()
	sum, n := m.Loss(tape, b, 0)
	require.Equal(t, len(labelled), n)
	return sum
}

// A fresh context is the text of its examples, and its loss that of their answers and of
// the texts behind it, each answer further back weighing half.
func TestContextIsText(t *testing.T) {
	context := []int32{3, 4, 5, 6, 7, 8, 9, 10}
	texts := [][]int32{{11, 12, 13}, {14, 15}}
	b := &model.Batch{Tokens: []int32{11, 12, 14}, Pos: []int32{0, 1, 0}, Seqs: []nn.Span{{Start: 0, End: 2}, {Start: 2, End: 3}}, Labels: []int32{-100, 13, 15}, First: []int32{11, -100}}
	labelled := [][]int{{8, 10}, {9}} // of context and text
	for name, s := range map[string]testmodel.Source{"llama": testmodel.Default(), "gpt2": testmodel.GPT2(), "gemma2": testmodel.Gemma2()} {
		for _, c := range []struct {
			kind                string
			factor, near, early float64
		}{{"none", 0.5, 1, 1}, {"decay", 0.5, 0.5, 0.25}} {
			plain := build(t, s, model.Options{})
			want := 0.0
			for i, text := range texts {
				all := slices.Concat(context, text)
				want += loss(t, plain, all, labelled[i]...) + c.near*loss(t, plain, all, 7) + c.early*loss(t, plain, all, 3, 4)
			}

			m := build(t, s, model.Options{})
			_, err := cpt.Method.New(m, with("opt_weighted_loss_type", c.kind, "opt_loss_decay_factor", c.factor), 1)
			require.NoError(t, err)
			require.Equal(t, 3, m.ExtraLabels)
			tape := nn.NewTape()
			defer tape.Close()
			got, n := m.Loss(tape, b, 0)
			require.Equal(t, 3+2*3, n)
			require.InDelta(t, want, got, bound.Output, "%s %s", name, c.kind)

			// Rows of another method before the context move its labels, not their number.
			_, err = prompttuning.Method.New(m, peft.Options{"virtual-tokens": 2}, 1)
			require.NoError(t, err)
			tape.Reset()
			moved, n := m.Loss(tape, b, 0)
			require.Equal(t, 9, n)
			require.Greater(t, math.Abs(moved-got), 1e-3)

			// The logits of the labelled are of the texts alone.
			tape.Reset()
			_, labels := m.Labelled(tape, b)
			require.Equal(t, []int32{-100, 13, 15, 11}, labels)
			m.Detach()
			require.Zero(t, m.ExtraLabels)
		}
	}
}

// The context is made of the first examples that fit whole.
func TestCalibrate(t *testing.T) {
	answers := func(tokens []int32, prompt int) *model.Batch {
		b := model.Sequence(tokens[:len(tokens)-1], 0)
		for i := range b.Tokens {
			label := int32(-100)
			if i+1 >= prompt {
				label = tokens[i+1]
			}
			b.Labels = append(b.Labels, label)
		}
		return b
	}
	text := func(tokens ...int32) *model.Batch {
		b := answers(tokens, 0)
		b.First = tokens[:1]
		return b
	}
	long := []int32{20, 21, 22, 23, 24, 25, 26, 27, 28, 29}
	for _, c := range []struct {
		name    string
		room    int
		batches []*model.Batch
		ids     []int32
		types   []int
	}{
		{"whole", 9, []*model.Batch{answers([]int32{1, 2, 3, 4}, 2), answers(long, 3), answers([]int32{5, 6, 7}, 2)},
			[]int32{1, 2, 3, 4, 5, 6, 7}, []int{2, 2, 4, 4, 6, 6, 8}},
		{"texts", 8, []*model.Batch{text(1, 2, 3, 4, 5), text(6, 7, 8)},
			[]int32{1, 2, 3, 4, 5, 6, 7, 8}, []int{2, 2, 4, 4, 4, 6, 8, 8}},
		{"cut", 4, []*model.Batch{answers(long, 5)}, []int32{23, 24, 25, 26}, []int{2, 2, 4, 4}},
		{"cut to a short answer", 4, []*model.Batch{answers(long, 9)}, []int32{26, 27, 28, 29}, []int{2, 2, 2, 4}},
		{"cut to a short input", 4, []*model.Batch{answers(long, 1)}, []int32{20, 21, 22, 23}, []int{2, 4, 4, 4}},
		{"cut text", 4, []*model.Batch{text(long...)}, []int32{23, 24, 25, 26}, []int{2, 2, 4, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := build(t, testmodel.Default(), model.Options{})
			before := m.MaxPositions
			ad, err := cpt.Method.New(m, peft.Options{"virtual-tokens": c.room}, 1)
			require.NoError(t, err)
			require.ErrorIs(t, ad.(peft.Stepper).Begin(0, 1), peft.ErrConfig)
			require.NoError(t, ad.(peft.Calibrator).Calibrate(context.Background(), m, slices.Values(c.batches)))
			require.NoError(t, ad.(peft.Stepper).Begin(0, 1))
			require.Equal(t, before-len(c.ids), m.MaxPositions)
			trained, answers := 0, 0
			for i, kind := range c.types {
				if kind%4 != 0 {
					trained++
				} else if i > 0 {
					answers++
				}
			}
			require.Equal(t, answers, m.ExtraLabels)
			require.Equal(t, []int{trained, m.HiddenSize}, ad.Params()[0].Shape)

			tape := nn.NewTape()
			defer tape.Close()
			got := slices.Clone(m.Logits(tape, model.Sequence([]int32{9, 10}, 0), nil).Mat().Data)
			plain := build(t, testmodel.Default(), model.Options{})
			n := int32(len(c.ids))
			want := plain.Logits(tape, model.Sequence(append(slices.Clone(c.ids), 9, 10), 0), []int32{n, n + 1})
			require.InDeltaSlice(t, want.Mat().Data, got, bound.Output)

			dir := filepath.Join(t.TempDir(), "a")
			require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
			again := build(t, testmodel.Default(), model.Options{})
			loaded, err := peft.Attach(again, dir, 1)
			require.NoError(t, err)
			_, calibrates := loaded.(peft.Calibrator)
			require.False(t, calibrates, "a saved context stays")
			raw, err := loaded.Config()
			require.NoError(t, err)
			var cfg struct {
				IDs    []int32 `json:"cpt_token_ids"`
				Mask   []int32 `json:"cpt_mask"`
				Types  []int   `json:"cpt_tokens_type_mask"`
				Tokens int     `json:"num_virtual_tokens"`
			}
			require.NoError(t, json.Unmarshal(raw, &cfg))
			require.Equal(t, c.ids, cfg.IDs)
			require.Equal(t, c.types, cfg.Types)
			require.Equal(t, slices.Repeat([]int32{1}, len(c.ids)), cfg.Mask)
			require.Equal(t, len(c.ids), cfg.Tokens)
		})
	}
}

// Changes are cut to their epsilon after each step, those of answers do not exist.
func TestProjection(t *testing.T) {
	m := build(t, testmodel.Default(), model.Options{})
	ad, err := cpt.Method.New(m, with("opt_projection_epsilon", 2, "opt_projection_format_epsilon", 0.5), 1)
	require.NoError(t, err)
	delta := ad.Params()[0].V.Mat()
	require.Equal(t, 4, delta.Rows) // a template, an input, an answer's template, an input
	for i := range delta.Data {
		delta.Data[i] = 1e-3
		if i/delta.Cols < 3 {
			delta.Data[i] = 5
		}
	}
	ad.(peft.Stepper).AfterUpdate(1)
	scale := math.Sqrt(float64(delta.Cols) / 2048)
	for i, want := range []float64{0.5 * scale, 2 * scale, 0.5 * scale, 1e-3 * math.Sqrt(float64(delta.Cols))} {
		sum := 0.0
		for _, x := range delta.Row(i) {
			sum += float64(x) * float64(x)
		}
		// Lengths below 1, of a norm, a division and a product: 1e-6 is 16 roundings.
		require.InDelta(t, want, math.Sqrt(sum), 1e-6, "row %d", i)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		says string
		o    peft.Options
	}{
		{"cpt_tokens_type_mask 0 types", peft.Options{"cpt_token_ids": ids}},
		{"without cpt_token_ids", peft.Options{"cpt_tokens_type_mask": types}},
		{"cpt_mask 1 numbers", with("cpt_mask", []any{1.0})},
		{"leave it out", with("num_virtual_tokens", 5)},
		{"vocabulary", with("cpt_token_ids", []any{3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1e6})},
		{"vocabulary", with("cpt_token_ids", []any{3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, -1.0})},
		{"cpt_tokens_type_mask[0] is -1", with("cpt_tokens_type_mask", []any{-1.0, 2.0, 3.0, 4.0, 4.0, 0.0, 6.0, 8.0})},
		{"highest type", with("cpt_tokens_type_mask", []any{1.0, 2.0, 3.0, 4.0, 4.0, 0.0, 6.0, 7.0})},
		{"nothing to train", with("cpt_tokens_type_mask", []any{0.0, 0.0, 0.0, 4.0, 4.0, 0.0, 0.0, 8.0})},
		{"opt_weighted_loss_type", with("opt_weighted_loss_type", "linear")},
		{"opt_projection_epsilon", with("opt_projection_epsilon", -1)},
		{"opt_projection_format_epsilon", with("opt_projection_format_epsilon", -1)},
		{"expected 2 or more", peft.Options{"virtual-tokens": 1}},
		{"num_virtual_tokens is 0", peft.Options{"virtual-tokens": 0}},
	} {
		_, err := cpt.Method.New(build(t, testmodel.Default(), model.Options{}), c.o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, c.says)
		require.ErrorContains(t, err, c.says)
	}
	for _, s := range []testmodel.Source{testmodel.BERT(2), testmodel.BART()} {
		_, err := cpt.Method.New(build(t, s, model.Options{}), nil, 1)
		require.ErrorIs(t, err, peft.ErrNoFit)
	}
	m := build(t, testmodel.Default(), model.Options{})
	ad, err := cpt.Method.New(m, nil, 1)
	require.NoError(t, err)
	empty := func(func(*model.Batch) bool) {}
	require.ErrorIs(t, ad.(peft.Calibrator).Calibrate(context.Background(), m, empty), peft.ErrConfig)
}
