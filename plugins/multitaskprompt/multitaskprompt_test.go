package multitaskprompt_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/multitaskprompt"
)

func TestConformance(t *testing.T) {
	both := func(b *model.Batch) {
		b.Tasks = []int32{2, 0}
		if b.Source != nil {
			b.Source.Tasks = b.Tasks
		}
	}
	many := peft.Options{"virtual-tokens": 4, "tasks": 3, "num_ranks": 2}
	pefttest.Run(t, multitaskprompt.Method, []pefttest.Case{
		{Name: "defaults"},
		{Name: "tasks", Options: many, Batch: both},
		{Name: "one of the tasks", Options: many, Batch: func(b *model.Batch) { b.Tasks = []int32{1, 1} }},
		{Name: "classifier", Model: testmodel.BERT(3), Options: many, Batch: both},
		{Name: "T5", Model: testmodel.T5(), Options: many, Batch: both},
		{Name: "seq2seq", Model: testmodel.BART(), Options: many, Batch: both},
	})
}

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestSource(t *testing.T) {
	from, err := multitaskprompt.Method.New(build(t), peft.Options{"virtual-tokens": 4, "tasks": 3, "num_ranks": 2}, 1)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, peft.Save(context.Background(), dir, from, nil))
	src := from.Params()
	for _, kind := range []string{"ONLY_SOURCE_SHARED", "EXACT_SOURCE_TASK", "AVERAGE_SOURCE_TASKS"} {
		ad, err := multitaskprompt.Method.New(build(t), peft.Options{
			"virtual-tokens": 4, "num_ranks": 2, "prompt-init": kind, "prompt_tuning_init_task": 1,
			"prompt-source": filepath.Join(dir, "adapter_model.safetensors"),
		}, 2)
		require.NoError(t, err, kind)
		p := ad.Params()
		require.Equal(t, src[0].V.Data, p[0].V.Data)
		cols, n := src[1].V.Data, len(p[1].V.Data)
		switch kind {
		case "EXACT_SOURCE_TASK":
			require.Equal(t, cols[n:2*n], p[1].V.Data)
		case "AVERAGE_SOURCE_TASKS":
			require.InDelta(t, (cols[0]+cols[n]+cols[2*n])/3, p[1].V.Data[0], 1e-7) // three roundings of numbers below 0.1: 2e-8
		default:
			require.NotEqual(t, cols[:n], p[1].V.Data)
		}
		raw, err := ad.Config()
		require.NoError(t, err)
		require.Contains(t, string(raw), `"prompt_tuning_init": "RANDOM"`)
	}
	for name, o := range map[string]peft.Options{
		"no path":      {"prompt-init": "EXACT_SOURCE_TASK"},
		"no such task": {"prompt-init": "EXACT_SOURCE_TASK", "prompt-source": dir, "prompt_tuning_init_task": 3, "virtual-tokens": 4, "num_ranks": 2},
		"two tasks":    {"prompt-init": "AVERAGE_SOURCE_TASKS", "prompt-source": dir, "tasks": 2, "virtual-tokens": 4, "num_ranks": 2},
		"no tasks":     {"tasks": 0},
	} {
		_, err := multitaskprompt.Method.New(build(t), o, 2)
		require.ErrorIs(t, err, peft.ErrConfig, name)
	}
	_, err = multitaskprompt.Method.New(build(t), peft.Options{"prompt-init": "ONLY_SOURCE_SHARED", "prompt-source": dir}, 2)
	require.ErrorIs(t, err, peft.ErrTensors)
}

// Sequences of two tasks in one batch are what they are alone.
func TestTasks(t *testing.T) {
	m := build(t)
	_, err := multitaskprompt.Method.New(m, peft.Options{"virtual-tokens": 4, "tasks": 2}, 1)
	require.NoError(t, err)
	tape := nn.NewTape()
	b := &model.Batch{
		Tokens: []int32{1, 2, 3, 4, 5}, Pos: []int32{0, 1, 0, 1, 2},
		Seqs: []nn.Span{{Start: 0, End: 2}, {Start: 2, End: 5}}, Tasks: []int32{1, 0},
	}
	got := append([]float32(nil), m.Logits(tape, b, nil).Mat().Data...)
	for i, s := range b.Seqs {
		one := model.Sequence(b.Tokens[s.Start:s.End], 0)
		one.Tasks = b.Tasks[i : i+1]
		tape.Reset()
		require.InDeltaSlice(t, got[s.Start*m.VocabSize:s.End*m.VocabSize], m.Logits(tape, one, nil).Mat().Data, bound.Output)
	}
}
