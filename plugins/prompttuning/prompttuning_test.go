package prompttuning_test

import (
	"slices"
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
	_ "github.com/peftkit/peftkit/model/roberta"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/prompttuning"
)

func TestConformance(t *testing.T) {
	small := peft.Options{"num_virtual_tokens": 4}
	pefttest.Run(t, prompttuning.Method, []pefttest.Case{
		{Name: "defaults"},
		{Name: "random", Options: peft.Options{"virtual-tokens": 3, "prompt-init": "RANDOM"}},
		{Name: "seq2seq", Model: testmodel.BART(), Options: small},
		{Name: "GPT2", Model: testmodel.GPT2(), Options: small},
		{Name: "Gemma2", Model: testmodel.Gemma2(), Options: small},
		{Name: "Qwen3", Model: testmodel.Qwen3(), Options: small},
		{Name: "classifier", Model: testmodel.BERT(3), Options: small},
		{Name: "classifier with a deep head", Model: testmodel.RoBERTa(2), Options: small},
		{Name: "T5", Model: testmodel.T5(), Options: small},
		{Name: "scaled embeddings", Model: testmodel.Marian(), Options: small},
	})
}

func build(t *testing.T, s testmodel.Source, o model.Options) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, o)
	require.NoError(t, err)
	return m
}

func TestText(t *testing.T) {
	m := build(t, testmodel.Default(), model.Options{})
	ad, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 5, "prompt-text": "some words"}, 1)
	require.NoError(t, err)
	require.ErrorIs(t, ad.(peft.Stepper).Begin(0, 1), peft.ErrConfig, "without tokens there is nothing to begin with")
	start := ad.(peft.TextStarter)
	require.Equal(t, []string{"some words"}, start.StartTexts())
	require.Error(t, start.StartTokens([][]int32{{1, 99}}))
	require.NoError(t, start.StartTokens([][]int32{{7, 8, 9}}))
	require.NoError(t, ad.(peft.Stepper).Begin(0, 1))
	tape := nn.NewTape()
	want := m.Inputs[0].Embedding.Forward(tape, []int32{7, 8, 9, 7, 8})
	require.Equal(t, want.Mat().Data, ad.Params()[0].V.Data)
	raw, err := ad.Config()
	require.NoError(t, err)
	require.Contains(t, string(raw), `"prompt_tuning_init": "TEXT"`)
	require.Contains(t, string(raw), `"tokenizer_name_or_path": "testmodel"`)
}

// A prompt of copied embeddings is the text that it was copied from.
func TestPromptIsText(t *testing.T) {
	m := build(t, testmodel.Default(), model.Options{})
	tape := nn.NewTape()
	whole := model.Sequence([]int32{7, 8, 9, 10, 11, 12}, 0)
	want := append([]float32(nil), m.Logits(tape, whole, []int32{3, 4, 5}).Mat().Data...)
	all := model.Sequence([]int32{7, 8, 9, 10, 11}, 0)
	all.Labels = []int32{-100, -100, 10, 11, 12}
	tape.Reset()
	loss, n := m.Loss(tape, all, 0)
	require.Equal(t, 3, n)

	ad, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 3, "prompt-text": "x"}, 1)
	require.NoError(t, err)
	require.NoError(t, ad.(peft.TextStarter).StartTokens([][]int32{{7, 8, 9}}))
	require.Equal(t, 125, m.MaxPositions)
	tape.Reset()
	got := m.Logits(tape, model.Sequence([]int32{10, 11, 12}, 0), nil)
	require.InDeltaSlice(t, want, got.Mat().Data, bound.Output)

	// The last row of the prompt predicts the first token.
	rest := model.Sequence([]int32{10, 11}, 0)
	rest.Labels, rest.First = []int32{11, 12}, []int32{10}
	tape.Reset()
	same, n := m.Loss(tape, rest, 0)
	require.Equal(t, 3, n)
	require.InDelta(t, loss, same, bound.Output)

	// With a cache, in pieces.
	cache := m.NewCache(1)
	for i, piece := range [][]int32{{10}, {11}, {12}} {
		b := model.Sequence(piece, i)
		b.Cache = cache
		tape.Reset()
		row := m.Logits(tape, b, nil).Mat().Row(0)
		require.InDeltaSlice(t, want[i*m.VocabSize:(i+1)*m.VocabSize], row, bound.Output)
	}
	require.Equal(t, 6, cache.Len())
	m.Detach()
	require.Equal(t, 128, m.MaxPositions)
}

func TestRefuses(t *testing.T) {
	for name, o := range map[string]peft.Options{
		"no tokens":       {"virtual-tokens": 0},
		"too many tokens": {"virtual-tokens": 128},
		"unknown start":   {"prompt-init": "ZEROS"},
		"no text":         {"prompt-init": "TEXT"},
		"no such option":  {"r": 3},
	} {
		_, err := prompttuning.Method.New(build(t, testmodel.Default(), model.Options{}), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, name)
	}
}

// For several texts the rows are run once, with the losses and gradients of the texts one by one; beside
// another method that puts rows there they stand before each.
func TestRowsRunOnce(t *testing.T) {
	b := &model.Batch{
		Tokens: []int32{3, 9, 14, 7, 20, 5, 6}, Pos: []int32{0, 1, 2, 3, 0, 1, 2}, Seqs: []nn.Span{{Start: 0, End: 4}, {Start: 4, End: 7}},
		Labels: []int32{9, 14, -100, 20, 5, 6, 8}, First: []int32{3, -100},
	}
	one := func(i int) *model.Batch {
		s := b.Seqs[i]
		out := model.Sequence(b.Tokens[s.Start:s.End], 0)
		out.Labels, out.First = b.Labels[s.Start:s.End], b.First[i:i+1]
		return out
	}
	for name, s := range map[string]testmodel.Source{"llama": testmodel.Default(), "gpt2": testmodel.GPT2(), "gemma2": testmodel.Gemma2(), "qwen3": testmodel.Qwen3(), "phi3": testmodel.Phi3()} {
		for _, crowded := range []bool{false, true} {
			m := build(t, s, model.Options{})
			ad, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 5}, 1)
			require.NoError(t, err)
			lead := 5
			if crowded {
				_, err := prompttuning.Method.New(m, peft.Options{"virtual-tokens": 2}, 2)
				require.NoError(t, err)
				lead = 7
			}
			rows := 0
			m.Attentions[0].Wrap(func(t *nn.Tape, q, k, v *nn.Var, s nn.AttnSpec, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
				rows += q.Rows
				return next(t, q, k, v, s)
			})
			run := func(batches ...*model.Batch) (loss float64, labels int, grad []float32) {
				rows = 0
				p := ad.Params()[0]
				p.ZeroGrad()
				for _, b := range batches {
					tape := nn.NewTape()
					tape.Train = true
					sum, n := m.Loss(tape, b, 1)
					tape.Backward()
					loss, labels = loss+sum, labels+n
					tape.Close()
				}
				return loss, labels, slices.Clone(p.V.Grad) // which adds up
			}
			want, n, grad := run(one(0), one(1))
			require.Equal(t, 7+2*lead, rows)
			got, same, all := run(b)
			if crowded {
				require.Equal(t, 7+2*lead, rows, "%s: rows of both", name)
			} else {
				require.Equal(t, 7+lead, rows, "%s: once", name)
			}
			require.Equal(t, n, same)
			require.InDelta(t, want, got, bound.Output, name)
			require.InDeltaSlice(t, grad, all, bound.Output, name)
		}
	}
}
