package standard_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/train"
)

// stretched is a data set of one example with a text of n tokens, on each side.
func stretched(m *model.Model, n int) *data.Dataset {
	d := dataset(m)
	ex := data.Example{File: "long", Line: 1, Tokens: slices.Repeat([]int32{5}, n)}
	switch m.Options.Task {
	case model.SequenceClassification:
		ex.Labels = []int32{1}
	default:
		ex.Labels = slices.Repeat([]int32{1}, n)
		if n > 0 && m.Options.Task.Generates() {
			ex.Labels[0] = data.Ignore
		}
	}
	if m.EncoderDecoder() {
		ex.Source = ex.Tokens
	}
	d.Examples = []data.Example{ex}
	return d
}

// A text may have as many tokens as the method leaves positions. One more is an
// error that names the example, wherever a text comes in.
func TestPositions(t *testing.T) {
	write(t, t.TempDir())
	for _, method := range peft.Methods() {
		info := method.Info()
		if info.Group != peft.PromptBased && info.Name != "adaption-prompt" && info.Name != "mam" && info.Name != "unipelt" {
			continue
		}
		for _, f := range families {
			t.Run(info.Name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				m := f.load(t)
				all := m.MaxPositions
				ad, err := method.New(m, small[info.Name], 1)
				if _, no := unfitting(info.Name, f.name); no {
					t.Skip("does not fit")
				}
				require.NoError(t, err)
				require.LessOrEqual(t, m.MaxPositions, all)
				ctx, c := context.Background(), train.Default()
				c.LearningRate, c.MaxSteps, c.GradAccum = 1e-4, 1, 1
				n := min(m.MaxPositions, 200)
				r, err := train.Run(ctx, c, m, ad, stretched(m, n))
				require.NoError(t, err)
				require.False(t, r.Loss != r.Loss, "the loss is not a number")
				_, err = train.Evaluate(ctx, m, stretched(m, n))
				require.NoError(t, err)
				if m.Options.Task.Generates() {
					tape := nn.NewTape()
					defer tape.Close()
					prompt := slices.Repeat([]int32{5}, n-2)
					_, err := generate.Tokens(ctx, m, prompt, generate.Options{MaxTokens: 8}, nil)
					require.NoError(t, err)
				}
				if m.MaxPositions > 200 {
					return // T5 has no table of positions
				}
				_, err = train.Run(ctx, c, m, ad, stretched(m, n+1))
				require.ErrorIs(t, err, train.ErrConfig)
				require.ErrorContains(t, err, "long:1")
				_, err = train.Evaluate(ctx, m, stretched(m, n+1))
				require.Error(t, err)
				require.ErrorContains(t, err, "long:1")
				if m.Options.Task.Generates() {
					_, err := generate.Tokens(ctx, m, slices.Repeat([]int32{5}, n+1), generate.Options{MaxTokens: 8}, nil)
					require.ErrorIs(t, err, generate.ErrPrompt)
				}
			})
		}
	}
}

// A text without tokens is an error, or trains, but never a panic.
func TestEmptyTexts(t *testing.T) {
	write(t, t.TempDir())
	for _, name := range []string{"full", "lora", "prompt-tuning", "prefix-tuning", "houlsby", "multitask-prompt-tuning", "mam"} {
		for _, f := range families {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				m := f.load(t)
				method, err := peft.ByName(name)
				require.NoError(t, err)
				ad, err := method.New(m, small[name], 1)
				require.NoError(t, err)
				c := train.Default()
				c.LearningRate, c.MaxSteps, c.GradAccum, c.BatchSize, c.Pack = 1e-4, 1, 1, 8, false
				for _, side := range []string{"text", "source"} {
					d := dataset(m)
					empty := &d.Examples[1]
					if side == "source" {
						if !m.EncoderDecoder() {
							continue
						}
						empty.Source = nil
					} else {
						empty.Tokens = nil
						if m.Options.Task != model.SequenceClassification {
							empty.Labels = nil
						}
					}
					r, err := train.Run(context.Background(), c, m, ad, d)
					if err != nil {
						require.ErrorContains(t, err, "test:2")
						continue
					}
					require.False(t, r.Loss != r.Loss, "%s: the loss is not a number", side)
				}
				if m.Options.Task.Generates() {
					_, err := generate.Tokens(context.Background(), m, nil, generate.Options{MaxTokens: 3}, nil)
					require.ErrorIs(t, err, generate.ErrPrompt)
				}
			})
		}
	}
}
