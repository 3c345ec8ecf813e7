package poly_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/poly"
)

func both(b *model.Batch) {
	for i := range b.Seqs {
		b.Tasks = append(b.Tasks, int32(2*(i%2)))
	}
	if b.Source != nil {
		b.Source.Tasks = b.Tasks
	}
}

func TestConformance(t *testing.T) {
	o := func(more ...any) peft.Options {
		out := peft.Options{"rank": 3, "n_tasks": 3, "init_weights": false}
		for i := 0; i < len(more); i += 2 {
			out[more[i].(string)] = more[i+1]
		}
		return out
	}
	pefttest.Run(t, poly.Method, []pefttest.Case{
		{Name: "defaults", Identity: true},
		{Name: "tasks", Options: o(), Batch: both},
		{Name: "splits", Options: o("n_splits", 4, "n_skills", 3, "target_modules", "q_proj,down_proj"), Batch: both},
		{Name: "one skill, not sampled", Options: o("n_skills", 1, "sample", false), Batch: both},
		{Name: "many rows", Options: o(), Batch: pefttest.Many},
		{Name: "gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "init_weights": false}},
		{Name: "bert", Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: o("target_modules", "query,pooler.dense"), Batch: both},
		{Name: "seq2seq", Model: testmodel.BART(), Options: o("target_modules", "q_proj,k_proj,v_proj,fc1"), Batch: both},
		{Name: "T5", Model: testmodel.T5(), Options: o("target_modules", "q,k,v,wo"), Batch: both},
	})
}

func build(t *testing.T, s testmodel.Source) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{{"rank": 0}, {"n_tasks": 0}, {"n_skills": 0}, {"n_splits": 0}, {"n_splits": 5}, {"poly_type": "mhr"}, {"target_modules": "embed_tokens"}} {
		_, err := poly.Method.New(build(t, testmodel.Default()), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Mixtures are drawn anew in each step of training, for every sequence, and not later.
func TestDraws(t *testing.T) {
	m := build(t, testmodel.Default())
	_, err := poly.Method.New(m, peft.Options{"init_weights": false}, 1)
	require.NoError(t, err)
	require.Equal(t, 1, m.Tasks)
	run := func(train bool, seed uint64) []float32 {
		tape := nn.NewTape()
		defer tape.Close()
		tape.Train, tape.Seed = train, seed
		b := &model.Batch{Tokens: []int32{3, 1, 3, 1}, Pos: []int32{0, 1, 0, 1}, Seqs: []nn.Span{{Start: 0, End: 2}, {Start: 2, End: 4}}}
		return append([]float32(nil), m.Logits(tape, b, nil).Mat().Data...)
	}
	half := func(x []float32, second bool) []float32 {
		if second {
			return x[len(x)/2:]
		}
		return x[:len(x)/2]
	}
	require.Equal(t, run(false, 1), run(false, 2))
	require.Equal(t, run(true, 1), run(true, 1))
	require.NotEqual(t, run(true, 1), run(true, 2))
	require.NotEqual(t, half(run(true, 1), false), half(run(true, 1), true))
	require.Equal(t, half(run(false, 1), false), half(run(false, 1), true))
}
