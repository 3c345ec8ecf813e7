package standard_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	_ "github.com/peftkit/peftkit/plugins/standard"
	"github.com/peftkit/peftkit/train"
)

// family is a test model and what it is built for.
type family struct {
	name   string
	source testmodel.Source
	build  model.Options
}

// families are all test models: each architecture, and the tasks of encoders.
var families = []family{
	{name: "llama", source: testmodel.Default()},
	{name: "gpt2", source: testmodel.GPT2()},
	{name: "qwen2", source: testmodel.Qwen2()},
	{name: "qwen3", source: testmodel.Qwen3()},
	{name: "gemma2", source: testmodel.Gemma2()},
	{name: "phi3", source: testmodel.Phi3()},
	{name: "bert", source: testmodel.BERT(3)},
	{name: "roberta", source: testmodel.RoBERTa(3)},
	{name: "distilbert", source: testmodel.DistilBERT(3)},
	{name: "bert-tokens", source: testmodel.Encoder{Family: "bert", Task: "ForTokenClassification", Labels: 5, Seed: 2}},
	{name: "bert-bare", source: testmodel.Encoder{Family: "bert", Task: "Model", Seed: 2},
		build: model.Options{Task: model.SequenceClassification, Labels: []string{"no", "maybe", "yes"}, Seed: 3}},
	{name: "llama-classifier", source: testmodel.Default(),
		build: model.Options{Task: model.SequenceClassification, Labels: []string{"no", "maybe", "yes"}, Seed: 3}},
	{name: "t5", source: testmodel.T5()},
	{name: "t5-gated", source: testmodel.T5Gated()},
	{name: "bart", source: testmodel.BART()},
	{name: "marian", source: testmodel.Marian()},
}

// folders are the families as Hugging Face folders, written once for all tests.
var folders struct {
	sync.Mutex
	byName map[string]string
}

func familyOf(t *testing.T, name string) family {
	i := slices.IndexFunc(families, func(f family) bool { return f.name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return families[i]
}

// write writes every family below dir.
func write(t *testing.T, dir string) {
	t.Helper()
	folders.Lock()
	defer folders.Unlock()
	folders.byName = map[string]string{}
	f, err := formats.ByName("safetensors")
	require.NoError(t, err)
	for _, fam := range families {
		path, m := filepath.Join(dir, fam.name), fam.source.HF()
		require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), path, &formats.OutModel{Config: m.Config, Tensors: formats.Copy(m.Tensors)}))
		folders.byName[fam.name] = path
	}
}

func (f family) folder() string {
	folders.Lock()
	defer folders.Unlock()
	return folders.byName[f.name]
}

func (f family) load(t *testing.T) *model.Model { return load(t, f.folder(), f.build) }

func load(t *testing.T, path string, o model.Options) *model.Model {
	t.Helper()
	m, err := model.Load(path, o)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// dataset is a few examples for the model's task.
func dataset(m *model.Model) *data.Dataset {
	d := &data.Dataset{Task: m.Options.Task, Labels: m.Options.Labels, Problem: m.Options.Problem}
	if d.Task == model.CausalLM {
		d.Task = ""
	}
	for k, n := range []int{5, 8, 3, 6} {
		ex := data.Example{File: "test", Line: k + 1}
		for i := range n {
			ex.Tokens = append(ex.Tokens, int32((i*7+11*k+3)%m.VocabSize))
		}
		switch m.Options.Task {
		case model.SequenceClassification:
			ex.Labels = []int32{int32(k % 3)}
		case model.TokenClassification:
			for i := range ex.Tokens {
				ex.Labels = append(ex.Labels, int32((i+k)%m.Head.W.Out))
			}
		default:
			ex.Labels = slices.Clone(ex.Tokens)
			ex.Labels[0] = data.Ignore
		}
		if m.EncoderDecoder() {
			for i := range n + 2 {
				ex.Source = append(ex.Source, int32((i*5+13*k+2)%m.VocabSize))
			}
		}
		d.Examples = append(d.Examples, ex)
	}
	return d
}

func all(d *data.Dataset) []int {
	out := make([]int, len(d.Examples))
	for i := range out {
		out[i] = i
	}
	return out
}

// logits are the model's for the examples of dataset.
func logits(m *model.Model) []float32 {
	d := dataset(m)
	tape := nn.NewTape()
	defer tape.Close()
	return slices.Clone(m.Logits(tape, d.Batch(all(d)), nil).Mat().Data)
}

func maxDiff(t *testing.T, a, b []float32) float64 {
	t.Helper()
	require.Len(t, b, len(a))
	worst := 0.0
	for i := range a {
		worst = math.Max(worst, math.Abs(float64(a[i])-float64(b[i])))
		if math.IsNaN(float64(a[i])) || math.IsNaN(float64(b[i])) {
			return math.Inf(1)
		}
	}
	return worst
}

// stir moves all parameters a little.
func stir(ad peft.Adapter, size float64) {
	for k, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] += float32(size * math.Sin(float64(13*k+7*i+1)))
		}
	}
}

// losses trains the adapter on one fixed batch and returns the loss of each step.
func losses(t *testing.T, m *model.Model, ad peft.Adapter, rate, decay float64, steps int) []float64 {
	t.Helper()
	d := dataset(m)
	c := train.Default()
	c.LearningRate, c.WeightDecay, c.Schedule, c.Warmup = rate, decay, train.Constant, 0
	c.BaseDropout = false // its noise is larger than what a few steps gain
	c.BatchSize, c.GradAccum, c.Pack, c.Shuffle, c.MaxSteps = len(d.Examples), 1, false, false, steps
	var out []float64
	c.Hooks = []train.Hook{train.Progress(func(s *train.Step) { out = append(out, s.Loss) })}
	_, err := train.Run(context.Background(), c, m, ad, d)
	require.NoError(t, err)
	return out
}

// gradients compares gradients with differences of the loss, for a few of the
// parameters, with the dropout of training: one seed is one mask. Where the loss
// has a bend (ReLU) nearby these mean nothing, so the largest of one of a
// parameter's quarters has to agree.
func gradients(t *testing.T, m *model.Model, ad peft.Adapter) {
	t.Helper()
	d := dataset(m)
	b := d.Batch(all(d))
	tape := nn.NewTape()
	defer tape.Close()
	tape.BaseDropout, tape.Seed = true, 5
	loss := func() float64 {
		tape.Reset()
		tape.Train = true
		sum, n := m.Loss(tape, b, 0)
		return sum / float64(n)
	}
	_, n := m.Loss(tape, b, 0)
	tape.Reset()
	tape.Train = true
	for _, p := range ad.Params() {
		p.ZeroGrad()
	}
	m.Loss(tape, b, 1/float32(n))
	tape.Backward()
	params, nonzero := ad.Params(), 0
	every := (len(params) + 5) / 6
	for k := 0; k < len(params); k += every {
		p := params[k]
		quarter := (len(p.V.Data) + 3) / 4
		ok := false
		var told []string
		for from := 0; from < len(p.V.Data) && !ok; from += quarter {
			i := from
			for j := from; j < min(from+quarter, len(p.V.Data)); j++ {
				if math.Abs(float64(p.V.Grad[j])) > math.Abs(float64(p.V.Grad[i])) {
					i = j
				}
			}
			old := p.V.Data[i]
			at := func(x float32) float64 { p.V.Data[i] = old + x; return loss() }
			got := float64(p.V.Grad[i])
			for _, h := range []float32{2e-3, 3e-4} { // the second where the loss is bent much
				want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / float64(12*h)
				told = append(told, fmt.Sprintf("[%d]: gradient %g, difference %g", i, got, want))
				// A loss is off by about 1e-6 (Spread(300) of a few units, but for errors that both
				// sides share), the difference by 1.5/h of that: 7.5e-4 and 5e-3. 2e-3 lies between;
				// 3 % is room for the curve of the loss. Both are no bounds but what tells a
				// gradient from a wrong one, which is off by tens of per cent; nntest.GradCheck and
				// pefttest hold the exact ones.
				if ok = math.Abs(want-got) <= 2e-3+0.03*math.Abs(want); ok {
					if math.Abs(want) > 2e-4 {
						nonzero++
					}
					break
				}
			}
			p.V.Data[i] = old
		}
		require.True(t, ok, "%s%v", p.Name, told)
	}
	require.Positive(t, nonzero, "all of the checked gradients are close to zero")
}

// useful reports whether an error says what would fit: a method, an option, or
// how to build the model.
func useful(err error, self peft.Info) bool {
	text := err.Error()
	for _, m := range peft.Methods() {
		if i := m.Info(); i.Name != self.Name && strings.Contains(text, i.Name) {
			return true
		}
	}
	for _, o := range self.Options {
		if o.Key != "" && strings.Contains(text, o.Key) {
			return true
		}
	}
	return strings.Contains(text, "build it for") || strings.Contains(text, "models of one stack") || strings.Contains(text, "target_modules")
}
