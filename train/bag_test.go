package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

const (
	bagVocab  = 20
	bagHidden = 16
)

// bag builds the smallest network with a head for any task: a token's embedding
// through one linear layer; a sequence is its first token, and a decoder's row
// also sees the first token of its source.
func bag(t testing.TB, o model.Options) (*model.Model, peft.Adapter) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	matrix := func(name string, rows, cols int) *nn.Weight {
		v := make([]float32, rows*cols)
		for i := range v {
			v[i] = float32(rng.NormFloat64() / math.Sqrt(float64(cols)))
		}
		w, err := tensor.FromFloats(name, []int{rows, cols}, v).Weight()
		require.NoError(t, err)
		return &nn.Weight{Name: name, Out: rows, In: cols, Frozen: w}
	}
	out := len(o.Labels)
	if o.Task.Generates() {
		out = bagVocab
	}
	embed := &nn.EmbeddingLayer{Path: "embed", W: matrix("embed.weight", bagVocab, bagHidden)}
	dense := &nn.LinearLayer{Path: "dense", W: matrix("dense.weight", bagHidden, bagHidden)}
	head := &nn.LinearLayer{Path: "head", W: matrix("head.weight", out, bagHidden)}
	ck := &model.Checkpoint{Family: nil, Source: &formats.Model{Path: "bag"}}
	m := &model.Model{
		Checkpoint: ck, Options: o, VocabSize: bagVocab, HiddenSize: bagHidden, Layers: 1, MaxPositions: 32, Head: head,
		Modules: []*model.Module{{Path: "embed", Embedding: embed}, {Path: "dense", Linear: dense}, {Path: "head", Linear: head, Output: true}},
	}
	in := &model.Input{Stack: model.Decoder, Embedding: embed}
	m.Inputs = []*model.Input{in}
	if o.Task == model.Seq2SeqLM {
		m.Inputs = append([]*model.Input{{Stack: model.Encoder, Embedding: embed}}, in)
	}
	firsts := func(spans []nn.Span) (rows []int32) {
		for _, s := range spans {
			rows = append(rows, int32(s.Start))
		}
		return rows
	}
	m.Run = func(t *nn.Tape, b *model.Batch) *model.States {
		rows := in.Forward(t, b)
		x := rows.X
		if b.Source != nil {
			src := m.Inputs[0].Forward(t, b.Source)
			var of []int32
			for i, s := range b.Seqs {
				for range s.End - s.Start {
					of = append(of, firsts(b.Source.Seqs)[i])
				}
			}
			x = nn.Add(t, x, nn.GatherRows(t, src.X, of))
		}
		x = dense.Forward(t, x)
		if o.Task == model.SequenceClassification {
			return &model.States{X: nn.GatherRows(t, x, firsts(b.Seqs))}
		}
		return rows.States(x)
	}
	method, err := peft.ByName("lora")
	require.NoError(t, err)
	ad, err := method.New(m, peft.Options{"r": 8, "lora_alpha": 16.0, "target_modules": "dense"}, 3)
	require.NoError(t, err)
	return m, ad
}

// bagData makes examples whose label is decided by the first token.
func bagData(o model.Options, n int) *data.Dataset {
	rng := rand.New(rand.NewPCG(9, 9))
	d := &data.Dataset{MaxSeqLen: 16, Task: o.Task, Problem: o.Problem, Labels: o.Labels}
	for i := range n {
		ex := data.Example{File: "bag.jsonl", Line: i + 1}
		for range 1 + rng.IntN(6) {
			ex.Tokens = append(ex.Tokens, int32(rng.IntN(bagVocab)))
		}
		first := ex.Tokens[0]
		switch {
		case o.Task == model.TokenClassification:
			for _, id := range ex.Tokens {
				ex.Labels = append(ex.Labels, id%3)
			}
			ex.Labels[0] = data.Ignore
			if len(ex.Tokens) == 1 {
				ex.Labels[0] = first % 3
			}
		case o.Task == model.Seq2SeqLM:
			ex.Source = ex.Tokens
			ex.Tokens = []int32{0, (first + 1) % bagVocab, 1}
			ex.Labels = []int32{data.Ignore, (first + 1) % bagVocab, 1}
		case o.Problem == model.Regression:
			ex.Targets = []float32{float32(first) / bagVocab}
		case o.Problem == model.MultiLabel:
			ex.Targets = []float32{float32(first % 2), float32(first / 2 % 2), 0}
		default:
			ex.Labels = []int32{first % 3}
		}
		d.Examples = append(d.Examples, ex)
	}
	return d
}

var three = []string{"a", "b", "c"}

var bagTasks = []struct {
	name   string
	o      model.Options
	metric string
	least  float64
}{
	{"one class", model.Options{Task: model.SequenceClassification, Labels: three, Problem: model.SingleLabel}, "accuracy", 0.9},
	{"several classes", model.Options{Task: model.SequenceClassification, Labels: three, Problem: model.MultiLabel}, "f1", 0.85},
	{"regression", model.Options{Task: model.SequenceClassification, Labels: []string{"LABEL_0"}, Problem: model.Regression}, "pearson", 0.8},
	{"tokens", model.Options{Task: model.TokenClassification, Labels: three}, "f1", 0.85},
	{"source and target", model.Options{Task: model.Seq2SeqLM}, "top1", 0.75},
}

func TestTasksLearn(t *testing.T) {
	for _, c := range bagTasks {
		t.Run(c.name, func(t *testing.T) {
			m, ad := bag(t, c.o)
			ds := bagData(c.o, 120)
			before, err := Evaluate(t.Context(), m, ds)
			require.NoError(t, err)
			cfg := quick()
			cfg.BatchSize, cfg.GradAccum, cfg.Epochs, cfg.LearningRate, cfg.WeightDecay = 8, 1, 60, 2e-2, 0
			cfg.Pack = true // does not apply
			tr, err := New(cfg, m, ad, ds)
			require.NoError(t, err)
			require.Equal(t, 15, tr.PerEpoch)
			r, err := tr.Run(t.Context())
			tr.Close()
			require.NoError(t, err)
			require.Positive(t, r.Labels)
			after, err := Evaluate(t.Context(), m, ds)
			require.NoError(t, err)
			require.Equal(t, c.metric, after.Metric)
			require.Equal(t, after.Score, after.Metrics[c.metric])
			require.Less(t, after.Loss, before.Loss)
			require.GreaterOrEqual(t, after.Score, c.least, fmt.Sprint(before.Metrics, after.Metrics))
			require.Equal(t, 120, after.Examples)
		})
	}
}

// The loss of training and that of evaluation are one number.
func TestLossIsThatOfTraining(t *testing.T) {
	for _, c := range bagTasks {
		t.Run(c.name, func(t *testing.T) {
			m, ad := bag(t, c.o)
			ds := bagData(c.o, 7)
			e, err := Evaluate(t.Context(), m, ds)
			require.NoError(t, err)
			cfg := quick()
			cfg.BatchSize, cfg.GradAccum = 3, 3
			tr, err := New(cfg, m, ad, ds)
			require.NoError(t, err)
			defer tr.Close()
			s, err := tr.Step(t.Context())
			require.NoError(t, err)
			require.InDelta(t, e.Loss, s.Loss, e.Loss*bound.Spread(16)) // the same rows in other batches
			require.Equal(t, e.Tokens, s.Labels)
		})
	}
}

func TestResumeOfTasks(t *testing.T) {
	for _, c := range bagTasks {
		t.Run(c.name, func(t *testing.T) {
			cfg := quick()
			cfg.SaveSteps, cfg.Keep = 3, 0
			run := func(dir, resume string) []uint32 {
				m, ad := bag(t, c.o)
				cfg.Output, cfg.Resume = dir, resume
				_, err := Run(t.Context(), cfg, m, ad, bagData(c.o, 12))
				require.NoError(t, err)
				return paramBits(ad)
			}
			one := t.TempDir()
			want := run(one, "")
			require.Equal(t, want, run(t.TempDir(), one+"/checkpoint-6"))
			m, ad := bag(t, c.o)
			other := bagData(c.o, 12)
			other.Labels = append([]string{"z"}, other.Labels...)
			other.Task = map[bool]model.Task{true: model.Seq2SeqLM, false: c.o.Task}[c.o.Task == model.Seq2SeqLM]
			cfg.Output, cfg.Resume = t.TempDir(), one+"/checkpoint-6"
			_, err := Run(t.Context(), cfg, m, ad, other)
			require.ErrorIs(t, err, ErrDrift)
		})
	}
}

func TestFitsBothSides(t *testing.T) {
	o := model.Options{Task: model.Seq2SeqLM}
	m, _ := bag(t, o)
	for _, c := range []struct {
		change func(*data.Example)
		want   string
	}{
		{func(e *data.Example) { e.Source = []int32{bagVocab} }, "bag.jsonl:1: invalid training setting: token 20 of the source is not in the model's vocabulary of 20"},
		{func(e *data.Example) { e.Tokens[1] = -1 }, "token -1 of the example"},
		{func(e *data.Example) { e.Source = make([]int32, 33) }, "the source has 33 tokens, the model takes at most 32"},
	} {
		ds := bagData(o, 2)
		c.change(&ds.Examples[0])
		_, err := Evaluate(t.Context(), m, ds)
		require.ErrorIs(t, err, ErrConfig)
		require.ErrorContains(t, err, c.want)
	}
	// The last token of a target is written and not read.
	ds := bagData(o, 1)
	ds.Examples[0].Tokens = make([]int32, 33)
	ds.Examples[0].Labels = make([]int32, 33)
	_, err := Evaluate(t.Context(), m, ds)
	require.NoError(t, err)
	_, err = Evaluate(t.Context(), m, tinyData(2))
	require.ErrorContains(t, err, "the data are for task CAUSAL_LM, the model has a head for SEQ_2_SEQ_LM")
}

// Rows before the sequences predict first tokens too, and the mean counts them.
func TestFirstTokensCount(t *testing.T) {
	ds := tinyData(6)
	for i := range ds.Examples {
		ds.Examples[i].TrainFirst = true
	}
	m, ad := tinyLoRA(t, 0)
	plain, err := Evaluate(t.Context(), m, ds)
	require.NoError(t, err)
	pre := &nn.Var{Rows: 2, Cols: m.HiddenSize, Data: make([]float32, 2*m.HiddenSize)}
	m.Inputs[0].Hook(func(t *nn.Tape, r *model.Rows) { r.Insert(t, pre, 2) })
	e, err := Evaluate(t.Context(), m, ds)
	require.NoError(t, err)
	require.Equal(t, plain.Tokens+6, e.Tokens)
	cfg := quick()
	cfg.BatchSize, cfg.GradAccum = 2, 3
	tr, err := New(cfg, m, ad, ds)
	require.NoError(t, err)
	defer tr.Close()
	s, err := tr.Step(t.Context())
	require.NoError(t, err)
	require.Equal(t, e.Tokens, s.Labels)
	require.InDelta(t, e.Loss, s.Loss, e.Loss*bound.Spread(16)) // the same rows in other batches
}
