package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/peft"
)

// quick is a short run on the tiny model.
func quick() Config {
	c := Default()
	c.LearningRate, c.Epochs, c.BatchSize, c.GradAccum, c.Pack = 1e-2, 3, 2, 2, false
	return c
}

func TestRunLearns(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	ds := tinyData(40)
	before, err := Evaluate(t.Context(), m, ds)
	require.NoError(t, err)
	c := quick()
	c.Epochs = 8
	var steps []Step
	c.Hooks = []Hook{Progress(func(s *Step) { steps = append(steps, *s) })}
	r, err := Run(t.Context(), c, m, ad, ds)
	require.NoError(t, err)
	after, err := Evaluate(t.Context(), m, ds)
	require.NoError(t, err)
	require.Equal(t, 80, r.Steps)
	require.Len(t, steps, 80)
	require.Less(t, after.Loss, before.Loss-1)
	require.Greater(t, after.Top1, before.Top1+0.2)
	require.Equal(t, math.Exp(after.Loss), after.Perplexity)
	require.Equal(t, int(ds.Examples[0].Trained()+countTrained(ds.Examples[1:])), after.Tokens)
	require.Positive(t, steps[79].Memory.Resident)
	require.Equal(t, 8.0, steps[79].Epoch)
}

func countTrained(ex []data.Example) int {
	n := 0
	for i := range ex {
		n += ex[i].Trained()
	}
	return n
}

// One window of many micro-batches gives the gradient of one big batch, packed
// or not, whatever the lengths of the examples.
func TestAccumulationEqualsBigBatch(t *testing.T) {
	ds := tinyData(12)
	type variant struct {
		batch, accum, examples int
		pack                   bool
	}
	var want []float32
	var wantLoss, wantNorm float64
	for i, v := range []variant{{12, 1, 12, false}, {1, 12, 12, false}, {5, 3, 12, false}, {2, 12, 12, true}} {
		m, ad := tinyLoRA(t, 0)
		c := quick()
		c.BatchSize, c.GradAccum, c.Pack, c.Shuffle, c.Warmup = v.batch, v.accum, v.pack, false, 0
		tr, err := New(c, m, ad, ds)
		require.NoError(t, err)
		require.Equal(t, 1, tr.PerEpoch)
		s, err := tr.Step(t.Context())
		require.NoError(t, err)
		var got []float32
		for _, p := range ad.Params() {
			got = append(got, p.V.Grad...)
		}
		if i == 0 {
			want, wantLoss, wantNorm = got, s.Loss, s.GradNorm
			require.Positive(t, wantNorm)
			continue
		}
		// The kernels sum a row alike in any batch, and a loss is a float64 mean of rows: far
		// fewer roundings differ than are made. Spread(16) is 1e-6; gradients sum over 12
		// sequences, in other orders, what came through some hundred terms: Spread(400) of
		// of the norm, and of the largest element.
		require.InEpsilon(t, wantLoss, s.Loss, bound.Spread(16))
		require.InEpsilon(t, wantNorm, s.GradNorm, bound.Spread(400))
		largest := float64(max(slices.Max(want), -slices.Min(want)))
		for j := range want {
			require.InDelta(t, want[j], got[j], largest*bound.Spread(400))
		}
	}
}

// The last window of an epoch is smaller; its mean is over its own tokens.
func TestPartialWindow(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	ds := tinyData(5)
	c := quick()
	c.BatchSize, c.GradAccum, c.Shuffle, c.Epochs = 1, 4, false, 1
	tr, err := New(c, m, ad, ds)
	require.NoError(t, err)
	require.Equal(t, 2, tr.Total)
	_, err = tr.Step(t.Context())
	require.NoError(t, err)
	want, err := Evaluate(t.Context(), m, &data.Dataset{Examples: ds.Examples[4:]})
	require.NoError(t, err)
	s, err := tr.Step(t.Context())
	require.NoError(t, err)
	require.InEpsilon(t, want.Loss, s.Loss, bound.Spread(16)) // the same rows in another batch
	require.Equal(t, want.Tokens, s.Labels)
}

func TestSameBytesOnAnyThreads(t *testing.T) {
	defer kernels.SetThreads(0)
	var want []uint32
	for _, n := range []int{1, 2, 8} {
		kernels.SetThreads(n)
		m, ad := tinyLoRA(t, 0.1)
		c := quick()
		c.Pack = true
		_, err := Run(t.Context(), c, m, ad, tinyData(30))
		require.NoError(t, err)
		if got := paramBits(ad); want == nil {
			want = got
		} else {
			require.Equal(t, want, got, "%d threads", n)
		}
	}
}

func TestResumeIsExact(t *testing.T) {
	ds := tinyData(30)
	c := quick()
	c.Pack, c.SaveSteps, c.Keep = true, 4, 0

	whole := c
	whole.Output = t.TempDir()
	m, ad := tinyLoRA(t, 0.1)
	r, err := Run(t.Context(), whole, m, ad, ds)
	require.NoError(t, err)
	want := paramBits(ad)

	part := c
	part.Output = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	part.Hooks = []Hook{Progress(func(s *Step) {
		if s.Step == 7 {
			cancel()
		}
	})}
	m, ad = tinyLoRA(t, 0.1)
	got, err := Run(ctx, part, m, ad, ds)
	require.ErrorIs(t, err, ErrInterrupted)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 7, got.Steps)
	require.Equal(t, filepath.Join(part.Output, "checkpoint-7"), got.Checkpoint)

	part.Hooks, part.Resume = nil, Auto
	m, ad = tinyLoRA(t, 0.1)
	got, err = Run(t.Context(), part, m, ad, ds)
	require.NoError(t, err)
	require.Equal(t, 7, got.Resumed)
	require.Equal(t, r.Steps, got.Steps)
	require.Equal(t, r.Loss, got.Loss)
	require.Equal(t, want, paramBits(ad))
	for _, name := range []string{"adapter_model.safetensors", "adapter_config.json", "optimizer.safetensors", "state.json"} {
		a, err := os.ReadFile(filepath.Join(r.Checkpoint, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(got.Checkpoint, name))
		require.NoError(t, err)
		require.Equal(t, a, b, name)
	}
	require.Equal(t, lossLines(t, whole.Output), lossLines(t, part.Output))

	// A finished run resumes to nothing.
	m, ad = tinyLoRA(t, 0.1)
	got, err = Run(t.Context(), part, m, ad, ds)
	require.NoError(t, err)
	require.Equal(t, r.Steps, got.Resumed)
	require.Equal(t, want, paramBits(ad))
}

// A checkpoint knows the steps that a parameter has missed.
func TestCheckpointKeepsMissedSteps(t *testing.T) {
	begin := func(resume string) *Trainer {
		m, ad := tinyLoRA(t, 0)
		c := quick()
		c.Output, c.Resume = t.TempDir(), resume
		tr, err := New(c, m, ad, tinyData(10))
		require.NoError(t, err)
		t.Cleanup(func() { tr.Close() })
		return tr
	}
	tr := begin("")
	for range 3 {
		_, err := tr.Step(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, make([]int, len(tr.Opt.Params)), tr.Opt.Missed)
	tr.Opt.Missed[1] = 2
	dir := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, tr.Save(t.Context(), dir))
	require.Equal(t, tr.Opt.Missed, begin(dir).Opt.Missed)
	state, err := os.ReadFile(filepath.Join(dir, stateName))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, stateName), []byte(strings.Replace(string(state), `"missed": [`, `"missed": [1,`, 1)), 0o666))
	m, ad := tinyLoRA(t, 0)
	c := quick()
	c.Output, c.Resume = t.TempDir(), dir
	_, err = New(c, m, ad, tinyData(10))
	require.ErrorIs(t, err, ErrCheckpoint)
	require.ErrorContains(t, err, "missed steps of")
}

// lossLines returns what metrics.jsonl says about each step, without what depends on time.
func lossLines(t *testing.T, dir string) (out []map[string]any) {
	b, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		var v map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		for _, k := range []string{"tokens_per_second", "memory_bytes", "peak_memory_bytes"} {
			delete(v, k)
		}
		out = append(out, v)
	}
	return out
}

// Cancelled in the middle of a window, the run leaves the last whole step.
func TestCancelBeforeTheFirstStep(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	start := paramBits(ad)
	c := quick()
	c.Output = t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to stop"))
	r, err := Run(ctx, c, m, ad, tinyData(10))
	require.ErrorIs(t, err, ErrInterrupted)
	require.ErrorContains(t, err, "told to stop")
	require.Equal(t, filepath.Join(c.Output, "checkpoint-0"), r.Checkpoint)
	require.Equal(t, start, paramBits(ad))
}

func TestResumeRefusesDrift(t *testing.T) {
	ds := tinyData(12)
	base := quick()
	base.Output, base.SaveSteps = t.TempDir(), 3
	m, ad := tinyLoRA(t, 0)
	_, err := Run(t.Context(), base, m, ad, ds)
	require.NoError(t, err)

	_, err = New(base, m, ad, ds)
	require.ErrorIs(t, err, ErrCheckpoint, "a new run over an old one")
	require.ErrorContains(t, err, "checkpoint-9")

	base.Resume = Auto
	t.Run("setting", func(t *testing.T) {
		c := base
		c.LearningRate = 5e-3
		_, err := New(c, m, ad, ds)
		require.ErrorIs(t, err, ErrDrift)
		require.ErrorContains(t, err, "lr: 0.01 then, 0.005 now")
	})
	t.Run("data", func(t *testing.T) {
		other := tinyData(12)
		other.Examples[3].Tokens[2] ^= 1
		_, err := New(base, m, ad, other)
		require.ErrorIs(t, err, ErrDrift)
		require.ErrorContains(t, err, "the training data (their content")
	})
	t.Run("base", func(t *testing.T) {
		m2, ad2 := tinyLoRA(t, 0)
		m2.Checkpoint.Entries[2].T.Data[5] ^= 1
		_, err := New(base, m2, ad2, ds)
		require.ErrorIs(t, err, ErrDrift)
		require.ErrorContains(t, err, "the base model (its weights")
	})
	t.Run("adapter", func(t *testing.T) {
		m2, ad2 := tinyLoRA(t, 0.5)
		_, err := New(base, m2, ad2, ds)
		require.ErrorIs(t, err, ErrDrift)
		require.ErrorContains(t, err, "adapter lora_dropout: 0 then, 0.5 now")
	})
	t.Run("damage", func(t *testing.T) {
		path := filepath.Join(base.Output, "checkpoint-9", "optimizer.safetensors")
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		b[len(b)-3] ^= 1
		require.NoError(t, os.WriteFile(path, b, 0o666))
		m2, ad2 := tinyLoRA(t, 0)
		_, err = New(base, m2, ad2, ds)
		require.ErrorIs(t, err, ErrCheckpoint)
		require.ErrorContains(t, err, "damaged")
	})
	t.Run("none", func(t *testing.T) {
		c := base
		c.Output = t.TempDir()
		_, err := New(c, m, ad, ds)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

// A checkpoint with a number that is none is refused by the file and the tensor that hold
// it, before its checksum. Minus infinity may be a weight (VB-LoRA's logits).
func TestResumeRefusesNaN(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, c := range map[string]struct {
		file, tensor string
		value        float32
		text         string
	}{
		"weight":          {paramsName, "", nan, "NaN"},
		"infinite weight": {paramsName, "", inf, "+Inf"},
		"moment":          {momentsName, "exp_avg.", nan, "NaN"},
		"infinite moment": {momentsName, "exp_avg_sq.", inf, "+Inf"},
	} {
		t.Run(name, func(t *testing.T) {
			base := quick()
			base.Output, base.MaxSteps = t.TempDir(), 2
			m, ad := tinyLoRA(t, 0)
			_, err := Run(t.Context(), base, m, ad, tinyData(4))
			require.NoError(t, err)
			dir := filepath.Join(base.Output, "checkpoint-2")
			path := filepath.Join(dir, c.file)
			tensorName := c.tensor + ad.Params()[1].Name
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			f, err := safetensors.Open(path)
			require.NoError(t, err)
			x := f.Tensor(tensorName)
			require.NotNil(t, x, tensorName)
			data := append([]byte(nil), x.Data...)
			f.Close()
			at := bytes.LastIndex(b, data)
			require.Positive(t, at)
			binary.LittleEndian.PutUint32(b[at+4*3:], math.Float32bits(c.value))
			require.NoError(t, os.WriteFile(path, b, 0o666))

			base.Resume = dir
			m, ad = tinyLoRA(t, 0)
			_, err = New(base, m, ad, tinyData(4))
			require.ErrorIs(t, err, ErrCheckpoint)
			require.ErrorIs(t, err, peft.ErrNotFinite)
			require.ErrorContains(t, err, fmt.Sprintf("%s: %q holds %s (value 3): the run had diverged; use an earlier checkpoint", path, tensorName, c.text))
		})
	}
}

func TestCheckpointsArePruned(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	c := quick()
	c.Output, c.SaveSteps, c.Keep = t.TempDir(), 2, 2
	r, err := Run(t.Context(), c, m, ad, tinyData(12))
	require.NoError(t, err)
	require.Equal(t, 9, r.Steps)
	have, err := Checkpoints(c.Output)
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(c.Output, "checkpoint-8"), filepath.Join(c.Output, "checkpoint-9")}, have)
	entries, err := os.ReadDir(c.Output)
	require.NoError(t, err)
	require.Len(t, entries, 3, "two checkpoints and metrics.jsonl")
}

func TestValidation(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	ds, valid, err := tinyData(20).Split(0.2, 1)
	require.NoError(t, err)
	c := quick()
	c.Output, c.Valid, c.EvalSteps = t.TempDir(), valid, 4
	var at []int
	c.Hooks = []Hook{Progress(func(s *Step) {
		if s.Valid != nil {
			at = append(at, s.Step)
		}
	})}
	r, err := Run(t.Context(), c, m, ad, ds)
	require.NoError(t, err)
	require.Equal(t, []int{4, 8, 12}, at)
	want, err := Evaluate(t.Context(), m, valid)
	require.NoError(t, err)
	require.Equal(t, want, r.Valid)
	n := 0
	for _, l := range lossLines(t, c.Output) {
		if _, ok := l["val_loss"]; ok {
			n++
		}
	}
	require.Equal(t, 3, n)
}

func TestNotFiniteNamesTheExample(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	ds := tinyData(8)
	// A token whose embedding is NaN, in example 6 only.
	for i := range ds.Examples {
		for j, id := range ds.Examples[i].Tokens {
			if id == 60 {
				ds.Examples[i].Tokens[j] = 1
			}
		}
		for j, id := range ds.Examples[i].Labels {
			if id == 60 {
				ds.Examples[i].Labels[j] = 1
			}
		}
	}
	ds.Examples[5].Tokens[1] = 60
	row := m.Checkpoint.Entries[0].T
	nan := make([]float32, tinyHidden)
	for i := range nan {
		nan[i] = float32(math.NaN())
	}
	row.Type.Encode(row.Row(60), nan)
	m.Head.W = m.Module("model.layers.0.mlp.gate_proj").Linear.W // a head without NaN: [48, 32]
	for i := range ds.Examples {
		for j, id := range ds.Examples[i].Labels {
			if id >= tinyFF {
				ds.Examples[i].Labels[j] = id - tinyFF
			}
		}
	}
	c := quick()
	c.BatchSize, c.GradAccum, c.Shuffle = 4, 2, false
	before := paramBits(ad)
	_, err := Run(t.Context(), c, m, ad, ds)
	require.ErrorIs(t, err, ErrNotFinite)
	require.ErrorContains(t, err, "step 1, micro-batch 2")
	require.ErrorContains(t, err, "(examples tiny.jsonl:6)")
	require.Equal(t, before, paramBits(ad))
}

func TestNotFiniteGradientNamesTheParameter(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	tr, err := New(quick(), m, ad, tinyData(4))
	require.NoError(t, err)
	defer tr.Close()
	p := ad.Params()[3]
	p.V.Grad[2] = float32(math.Inf(1))
	err = tr.blameGradient(&Step{Step: 5, Loss: 2})
	require.ErrorIs(t, err, ErrNotFinite)
	require.ErrorContains(t, err, "step 5: the gradient of "+p.Name)
	require.Zero(t, tr.Done())
}

func TestEvalResultIsJSON(t *testing.T) {
	for _, r := range []EvalResult{{Loss: 1, Perplexity: math.E, Tokens: 3, Top1: 0.5}, {Loss: math.NaN(), Perplexity: math.Inf(1)}} {
		b, err := json.Marshal(&r)
		require.NoError(t, err)
		var v map[string]any
		require.NoError(t, json.Unmarshal(b, &v))
		require.Len(t, v, 4)
		require.Equal(t, math.IsNaN(r.Loss), v["loss"] == nil)
	}
}

func TestConfigErrors(t *testing.T) {
	m, ad := tinyLoRA(t, 0)
	for name, change := range map[string]func(*Config){
		"learning rate":         func(c *Config) { c.LearningRate = 0 },
		"beta2":                 func(c *Config) { c.Beta2 = 1 },
		"batch size":            func(c *Config) { c.BatchSize = 0 },
		"gradient accumulation": func(c *Config) { c.GradAccum = 0 },
		"epochs":                func(c *Config) { c.Epochs = 0 },
		"schedule":              func(c *Config) { c.Schedule = "step" },
		"clip":                  func(c *Config) { c.Clip = math.NaN() },
		"resume":                func(c *Config) { c.Resume = Auto },
	} {
		c := quick()
		change(&c)
		_, err := New(c, m, ad, tinyData(3))
		require.ErrorIs(t, err, ErrConfig, name)
		require.ErrorContains(t, err, name)
	}
	ds := tinyData(3)
	ds.Examples[1].Tokens[0] = tinyVocab
	_, err := New(quick(), m, ad, ds)
	require.ErrorContains(t, err, "tiny.jsonl:2")
	require.ErrorContains(t, err, "tokenizer is of another model")
}
