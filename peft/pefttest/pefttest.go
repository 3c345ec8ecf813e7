// Package pefttest is the conformance suite that every method plug-in passes: a
// method's own test calls [Run] with a few configurations.
package pefttest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/formats/adapterhub" // adapters are saved and loaded through these
	_ "github.com/peftkit/peftkit/formats/hfpeft"
	"github.com/peftkit/peftkit/internal/bound/netbound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/bert" // the families of the test models
	_ "github.com/peftkit/peftkit/model/distilbert"
	_ "github.com/peftkit/peftkit/model/gemma"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/llama"
	_ "github.com/peftkit/peftkit/model/mistral"
	_ "github.com/peftkit/peftkit/model/phi3"
	_ "github.com/peftkit/peftkit/model/qwen2"
	_ "github.com/peftkit/peftkit/model/qwen3"
	_ "github.com/peftkit/peftkit/model/roberta"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// Case is one configuration of a method to be tested.
type Case struct {
	Name string
	// Model is the test model, nil for the default one.
	Model   testmodel.Source
	Options peft.Options
	// Build says what the model is built for; its zero value is what the model says.
	Build model.Options
	// Batch changes the batch that the model is run on, nil for none.
	Batch func(b *model.Batch)
	// Skip names the parameters whose gradient is by definition not that of the loss
	// (OSF's projections).
	Skip func(name string) bool
	// Hold fixes what the method takes for a constant of its gradient (DoRA's norm),
	// which finite differences must not see move. nil for most methods.
	Hold func(ad peft.Adapter)
	// Steer moves the parameters to where the loss has no bend (ReLU) and no jump within
	// a step of the differences that gradients are compared with. nil for most methods.
	Steer func(ad peft.Adapter)
	// Rewritten says that the file holds the adapter in another form, whose output
	// differs by rounding.
	Rewritten bool
	// Identity says that a fresh adapter leaves the model's output unchanged.
	Identity bool
	// WholeText says that what the method does at a token depends on the tokens after
	// it, so that a text that comes in pieces gives other logits.
	WholeText bool
}

// Run checks a method over its cases: the promise of identity at the start,
// gradients against finite differences, merged against unmerged output, saving
// and loading, and the report of unknown, missing and misshapen tensors.
func Run(t *testing.T, m peft.Method, cases []Case) {
	for _, c := range cases {
		if c.Model == nil {
			c.Model = testmodel.Default()
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Run("identity", func(t *testing.T) { identity(t, m, c) })
			t.Run("gradients", func(t *testing.T) { gradients(t, m, c) })
			t.Run("cache", func(t *testing.T) { cached(t, m, c) })
			t.Run("same seed", func(t *testing.T) { sameSeed(t, m, c) })
			t.Run("save and load", func(t *testing.T) { saveLoad(t, m, c) })
			t.Run("tensors", func(t *testing.T) { tensors(t, m, c) })
			t.Run("unknown keys survive", func(t *testing.T) { unknownKeys(t, m, c) })
			if _, ok := m.(peft.Merger); ok && m.Info().NotMergeable == "" {
				t.Run("merge", func(t *testing.T) { merge(t, m, c) })
			}
		})
	}
}

func open(t *testing.T, c Case) *model.Model {
	ck, err := model.FromFile(c.Model.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, c.Build)
	require.NoError(t, err)
	return m
}

// batchOf is the batch for a model's task.
func batchOf(m *model.Model, c Case) *model.Batch {
	b := batch(m.VocabSize)
	switch task := m.Options.Task; task {
	case model.Seq2SeqLM:
		b.Source = batch(m.VocabSize)
		b.Source.Labels = nil
		for i := range b.Source.Tokens {
			b.Source.Tokens[i] = int32((i*11 + 5) % m.VocabSize)
		}
	case model.SequenceClassification:
		b.Labels = []int32{1, 0}
	case model.TokenClassification:
		for i := range b.Labels {
			b.Labels[i] = int32(i % m.Head.W.Out)
		}
	}
	if c.Batch != nil {
		c.Batch(b)
	}
	return b
}

// batch is two packed sequences with labels on most rows.
func batch(vocab int) *model.Batch {
	b := &model.Batch{Seqs: []nn.Span{{Start: 0, End: 5}, {Start: 5, End: 12}}}
	for i := range 12 {
		pos := i
		if i >= 5 {
			pos = i - 5
		}
		b.Tokens = append(b.Tokens, int32((i*7+3)%vocab))
		b.Pos = append(b.Pos, int32(pos))
		label := int32((i*5 + 1) % vocab)
		if i%4 == 0 {
			label = -100
		}
		b.Labels = append(b.Labels, label)
	}
	return b
}

func logits(m *model.Model, c Case) []float32 {
	tape := nn.NewTape()
	out := m.Logits(tape, batchOf(m, c), nil)
	return append([]float32(nil), out.Data[:out.Rows*out.Cols]...)
}

// worst is the largest difference in units of its limit.
func worst(a, b []float32, limits []float64) float64 {
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(float64(a[i])-float64(b[i]))/limits[i])
	}
	return most
}

func within(t *testing.T, want, got []float32, limits []float64, msg string) {
	require.Len(t, got, len(want))
	require.Len(t, limits, len(want))
	for i := range want {
		require.InDelta(t, want[i], got[i], limits[i], "%s: value %d", msg, i)
	}
}

// stir moves all parameters away from their start, so that none is zero.
func stir(ad peft.Adapter) {
	for k, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] += 0.05 * float32(math.Sin(float64(13*k+7*i+1)))
		}
	}
}

func identity(t *testing.T, m peft.Method, c Case) {
	mod := open(t, c)
	before := logits(mod, c)
	ad, err := m.New(mod, c.Options, 42)
	require.NoError(t, err)
	require.NotEmpty(t, ad.Params())
	require.NotEmpty(t, ad.Summary())
	limits := netbound.Logits(mod, batchOf(mod, c))
	if c.Identity {
		within(t, before, logits(mod, c), limits, "a fresh adapter must not change the output")
	}
	stir(ad)
	require.Greater(t, worst(before, logits(mod, c), limits), 10.0, "a changed adapter must change the output")
	mod.Detach()
}

func gradients(t *testing.T, m peft.Method, c Case) {
	mod := open(t, c)
	ad, err := m.New(mod, c.Options, 42)
	require.NoError(t, err)
	stir(ad)
	if c.Steer != nil {
		c.Steer(ad)
	}
	b := batchOf(mod, c)
	tape := nn.NewTape()
	tape.Train = true
	loss := func() float64 {
		tape.Reset() // its seed stays: what a method draws in training is the same each time
		sum, n := mod.Loss(tape, b, 0)
		return sum / float64(n)
	}
	_, n := mod.Loss(tape, b, 0)
	tape.Reset()
	mod.Loss(tape, b, 1/float32(n))
	tape.Backward()
	if c.Hold != nil {
		c.Hold(ad)
	}
	checked, nonzero := 0, 0
	for _, p := range ad.Params() {
		if c.Skip != nil && c.Skip(p.Name) {
			continue
		}
		step := max(1, len(p.V.Data)/3)
		for i := 0; i < len(p.V.Data); i += step {
			// Fourth-order central difference: float32 losses allow no small step. A loss of
			// about 4 comes from logits that are off by up to 1e-6 each, independently:
			// the weights 8, 8, 1 and 1 make that 11.4*1e-6/(12h) = 3e-4 in the root mean
			// square, and 2e-3 six of these. What is left of the bend, h⁴f⁽⁵⁾/30, and of kinks
			// near the value is within 3 % where all third derivatives are within 1/h.
			const h = 3e-3
			old := p.V.Data[i]
			at := func(x float32) float64 {
				p.V.Data[i] = old + x
				return loss()
			}
			want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
			p.V.Data[i] = old
			require.InDelta(t, want, float64(p.V.Grad[i]), 2e-3+0.03*math.Abs(want), "%s[%d]", p.Name, i) // noise and bend
			checked++
			if math.Abs(want) > 1e-5 {
				nonzero++
			}
		}
	}
	require.Greater(t, nonzero, checked/4, "most of the checked gradients are zero")
}

// cached checks that tokens that come one by one, and then two at once, to a
// cache give the logits that they give all at once.
func cached(t *testing.T, m peft.Method, c Case) {
	mod := open(t, c)
	if !mod.Options.Task.Generates() {
		t.Skip("the model writes no text")
	}
	if c.WholeText {
		t.Skip("the method reads the whole text")
	}
	ad, err := m.New(mod, c.Options, 42)
	require.NoError(t, err)
	stir(ad)
	tape := nn.NewTape()
	all := batchOf(mod, c)
	tokens := all.Tokens[:all.Seqs[0].End]
	part := func(from, to int) *model.Batch {
		b := model.Sequence(tokens[from:to], from)
		if all.Tasks != nil {
			b.Tasks = all.Tasks[:1]
		}
		if all.Source != nil {
			b.Source = model.Sequence(all.Source.Tokens[:all.Source.Seqs[0].End], 0)
			b.Source.Tasks = b.Tasks
		}
		return b
	}
	out := mod.Logits(tape, part(0, len(tokens)), nil)
	want := append([]float32(nil), out.Mat().Data...)
	limits := netbound.Moved(mod, part(0, len(tokens)))
	cache := mod.NewCache(2)
	for from := 0; from < len(tokens); {
		to := from + 1
		if from == 2 {
			to += 2
		}
		b := part(from, to)
		b.Cache = cache
		tape.Reset()
		got := mod.Logits(tape, b, nil)
		lo, hi := from*got.Cols, to*got.Cols
		within(t, want[lo:hi], got.Mat().Data, limits[lo:hi], fmt.Sprintf("tokens %d to %d", from, to))
		from = to
	}
}

func sameSeed(t *testing.T, m peft.Method, c Case) {
	params := func(seed uint64) [][]float32 {
		ad, err := m.New(open(t, c), c.Options, seed)
		require.NoError(t, err)
		var out [][]float32
		for _, p := range ad.Params() {
			out = append(out, p.V.Data)
		}
		return out
	}
	require.Equal(t, params(3), params(3))
}

func save(t *testing.T, ad peft.Adapter, dir string) {
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
}

func files(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(b)
	}
	return out
}

func saveLoad(t *testing.T, m peft.Method, c Case) {
	mod := open(t, c)
	ad, err := m.New(mod, c.Options, 42)
	require.NoError(t, err)
	stir(ad)
	want := logits(mod, c)
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	save(t, ad, one)

	again := open(t, c)
	loaded, err := peft.Attach(again, one, 1)
	require.NoError(t, err)
	within(t, want, logits(again, c), netbound.Moved(again, batchOf(again, c)), "loaded")
	save(t, loaded, two)
	require.Equal(t, files(t, one), files(t, two), "save, load and save again must give the same bytes")
}

// reopen saves the adapter and opens the file for a test to spoil.
func reopen(t *testing.T, m peft.Method, c Case) *formats.Adapter {
	ad, err := m.New(open(t, c), c.Options, 42)
	require.NoError(t, err)
	stir(ad)
	dir := filepath.Join(t.TempDir(), "a")
	save(t, ad, dir)
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return a
}

func tensors(t *testing.T, m peft.Method, c Case) {
	a := reopen(t, m, c)
	all := a.Tensors
	for _, bad := range []struct {
		name string
		list []*tensor.Tensor
	}{
		{"missing", all[1:]},
		{"unknown", append(all[:len(all):len(all)], tensor.FromFloats("base_model.model.nowhere.weight", []int{2}, []float32{1, 2}))},
		{"misshapen", append([]*tensor.Tensor{tensor.FromFloats(all[0].Name, []int{1, 3}, []float32{1, 2, 3})}, all[1:]...)},
	} {
		a.Tensors = bad.list
		want := peft.ErrTensors
		if len(bad.list) == 0 { // the only tensor is missing
			want = peft.ErrNoMatch
		}
		_, err := m.Load(open(t, c), a, 1)
		require.ErrorIs(t, err, want, bad.name)
	}
	a.Tensors = nil
	_, err := m.Load(open(t, c), a, 1)
	require.ErrorIs(t, err, peft.ErrNoMatch)
}

func unknownKeys(t *testing.T, m peft.Method, c Case) {
	a := reopen(t, m, c)
	var cfg map[string]any
	require.NoError(t, json.Unmarshal(a.Config, &cfg))
	cfg["a_key_of_a_later_version"] = map[string]any{"x": 1.5}
	raw, err := json.Marshal(cfg)
	require.NoError(t, err)
	a.Config = raw
	ad, err := m.Load(open(t, c), a, 1)
	require.NoError(t, err)
	out, err := ad.Config()
	require.NoError(t, err)
	var back map[string]any
	require.NoError(t, json.Unmarshal(out, &back))
	require.Equal(t, cfg["a_key_of_a_later_version"], back["a_key_of_a_later_version"])
}

func merge(t *testing.T, m peft.Method, c Case) {
	mod := open(t, c)
	ad, err := m.New(mod, c.Options, 42)
	require.NoError(t, err)
	stir(ad)
	want := logits(mod, c)
	dir := filepath.Join(t.TempDir(), "a")
	save(t, ad, dir)
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()

	src := c.Model.HF()
	ck, err := model.FromFile(src)
	require.NoError(t, err)
	set, err := peft.Changes(a, ck, 1)
	require.NoError(t, err)
	require.Empty(t, set.Unmatched)
	require.Equal(t, len(a.Tensors), set.Matched)
	for _, ch := range set.Changes {
		tn := ck.Tensor(ch.Tensor)
		if tn == nil {
			t.Skipf("%s is not in the base model: the merge materialises it, see package convert", ch.Tensor)
		}
		w, err := tn.AllFloats()
		require.NoError(t, err)
		if ch.Replace != nil {
			require.NoError(t, ch.Replace(w, 0, tn.Rows()))
		}
		if ch.Apply != nil && ch.Whole {
			ch.Apply(w, 0, tn.Rows())
		} else if ch.Apply != nil {
			mid := tn.Rows() / 2 // in two pieces, as a streaming merge does
			ch.Apply(w[:mid*tn.Cols()], 0, mid)
			ch.Apply(w[mid*tn.Cols():], mid, tn.Rows())
		}
		for i, s := range src.Tensors {
			if s.Name == ch.Tensor {
				src.Tensors[i] = tensor.FromFloats(s.Name, s.Shape, w)
			}
		}
		ck, err = model.FromFile(src) // later changes see the earlier ones
		require.NoError(t, err)
	}
	merged, err := model.Build(ck, c.Build)
	require.NoError(t, err)
	// A merged weight is rounded once more than the sum it stands for: one more of many terms.
	within(t, want, logits(merged, c), netbound.Moved(merged, batchOf(merged, c)), "merged and unmerged output differ")
}
