// Package demo is the whole story of peftkit on a model it carries with it: a
// base model that peftkit trained on Jane Austen's novels learns by LoRA to tell
// which of them a passage is from. recipe, below this folder, makes the files.
package demo

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/guptarohit/asciigraph"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

//go:embed assets/austen.gguf assets/train.jsonl.gz assets/test.jsonl.gz
var assets embed.FS

// ErrCheck says that the merged model does not compute what the adapter does.
var ErrCheck = errors.New("the merged model and the adapter differ")

// Options of a run.
type Options struct {
	// Dir receives the files of the run; a temporary folder when empty. It stays.
	Dir string
	// Width is the width of the terminal, 80 when 0.
	Width int
	// Progress, when not nil, is told of each optimizer step.
	Progress func(*train.Step)
	// Examples and Test limit the passages to train and to test on, 0 for all.
	Examples, Test int
}

// Result is what a run found.
type Result struct {
	Dir           string        `json:"dir"`
	Before        float64       `json:"accuracy_before"`
	After         float64       `json:"accuracy_after"`
	Test          int           `json:"test_passages"`
	FirstLoss     float64       `json:"first_loss"`
	LastLoss      float64       `json:"last_loss"`
	MergedMaxDiff float64       `json:"merged_max_logit_difference"`
	Elapsed       time.Duration `json:"elapsed_ns"`
}

// The recipe of the adapter.
const (
	rank, alpha  = 8, 16.0
	learningRate = 4e-3
	epochs       = 2
	batchSize    = 16
	seed         = 42
	shown        = 3
	novels       = 6
	// tolerance is the largest logit difference that the order of float32 sums explains:
	// 4*sqrt(2)*bound.Spread(5600)*5 (the terms of the sums behind a logit; logits of 5 in the
	// root mean square; attention passes errors on up to 4 times) is 5e-4. Twice that is a
	// safety factor.
	tolerance = 1e-3
)

// Run tells the story on out. It needs no network and about a minute and a half
// on two cores.
func Run(ctx context.Context, out io.Writer, o Options) (*Result, error) {
	begin := time.Now()
	d := &run{ctx: ctx, out: out, o: o, width: o.Width}
	if d.width == 0 {
		d.width = 80
	}
	if err := d.unpack(); err != nil {
		return nil, err
	}
	res := &Result{Dir: d.o.Dir}
	for _, step := range []func(*Result) error{d.open, d.before, d.train, d.after, d.merge} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(res); err != nil {
			return nil, err
		}
	}
	res.Elapsed = time.Since(begin)
	d.say("\nDone in %.0f s. The files are in %s:\n", res.Elapsed.Seconds(), d.o.Dir)
	d.say("  austen.gguf      the base model          train.jsonl, test.jsonl  the passages")
	d.say("  adapter/         the LoRA, Hugging Face PEFT's format")
	d.say("  merged.gguf      base and LoRA in one, for llama.cpp or Ollama\n")
	d.say("Your own model and data next:")
	d.say("  peftkit train -m MODEL -d DATA.jsonl -o adapters/")
	return res, nil
}

type run struct {
	ctx   context.Context
	out   io.Writer
	o     Options
	width int

	m                 *model.Model
	tok               *tokenizer.Tokenizer
	trainSet, testSet *data.Dataset
	adapter           peft.Adapter
	answers           []generate.Match
}

func (d *run) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *run) path(name string) string { return filepath.Join(d.o.Dir, name) }

// unpack writes the embedded files to the folder of the run.
func (d *run) unpack() error {
	var err error
	if d.o.Dir == "" {
		d.o.Dir, err = os.MkdirTemp("", "peftkit-demo-")
	} else {
		err = os.MkdirAll(d.o.Dir, 0o755)
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"austen.gguf", "train.jsonl.gz", "test.jsonl.gz"} {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return err
		}
		if plain, ok := strings.CutSuffix(name, ".gz"); ok {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return err
			}
			if b, err = io.ReadAll(z); err != nil {
				return err
			}
			name = plain
		}
		if err := os.WriteFile(d.path(name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (d *run) open(*Result) error {
	var err error
	if d.m, err = model.Load(d.path("austen.gguf"), model.Options{}); err != nil {
		return err
	}
	if d.tok, err = tokenizer.FromModel(d.m.Source); err != nil {
		return err
	}
	load := func(name string, limit int) (*data.Dataset, error) {
		ds, err := data.Load(d.path(name), data.Options{Tokenizer: d.tok, MaxSeqLen: d.m.MaxPositions})
		if err == nil && limit > 0 && limit < len(ds.Examples) {
			ds.Examples = ds.Examples[:limit]
		}
		return ds, err
	}
	if d.trainSet, err = load("train.jsonl", d.o.Examples); err != nil {
		return err
	}
	if d.testSet, err = load("test.jsonl", d.o.Test); err != nil {
		return err
	}
	d.say("peftkit demo: which of Jane Austen's novels is this passage from?\n")
	d.say("Base model   Llama, %.2f M parameters in F16, trained by peftkit on the six novels", float64(d.m.Parameters())/1e6)
	d.say("Passages     %d to learn from, %d from chapters that neither the model nor the adapter has seen", len(d.trainSet.Examples), len(d.testSet.Examples))
	d.say("Computer     %s kernels, %d threads\n", kernels.Tier(), kernels.Threads())
	return nil
}

// score lets the model answer every test passage.
func (d *run) score() (float64, error) {
	d.answers = nil
	r, err := generate.ExactMatch(d.ctx, d.m, d.tok, d.testSet, func(m generate.Match) { d.answers = append(d.answers, m) })
	if err != nil {
		return 0, err
	}
	return r.Score(), nil
}

func (d *run) before(res *Result) error {
	var err error
	if res.Before, err = d.score(); err != nil {
		return err
	}
	res.Test = len(d.answers)
	d.say("Before training, the base model just goes on writing:\n")
	d.show()
	d.say("Right on unseen passages: %s (guessing would give %.0f %%)\n", d.share(res.Before), 100.0/novels)
	return nil
}

func (d *run) share(x float64) string {
	n := len(d.answers)
	return fmt.Sprintf("%.1f %% (%d of %d)", 100*x, int(math.Round(x*float64(n))), n)
}

// show prints the first few passages with the model's answers.
func (d *run) show() {
	for _, a := range d.answers[:min(shown, len(d.answers))] {
		passage := strings.TrimPrefix(strings.TrimSuffix(a.Prompt, "\nNovel:"), "Passage: ")
		got := strings.Join(strings.Fields(a.Got), " ")
		mark := "✗"
		if a.Equal {
			mark = "✓"
		}
		d.say("  “%s”", cut(passage, d.width-6))
		d.say("   %s %-46s  truth: %s\n", mark, cut(got, 46), a.Want)
	}
}

// cut shortens s to n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func (d *run) train(res *Result) error {
	method, err := peft.ByName("lora")
	if err != nil {
		return err
	}
	if d.adapter, err = method.New(d.m, peft.Options{"rank": rank, "alpha": alpha}, seed); err != nil {
		return err
	}
	n := 0
	for _, p := range d.adapter.Params() {
		n += len(p.V.Data)
	}
	d.say("Training     %s", d.adapter.Summary())
	d.say("             %d trainable parameters, %.1f %% of the model", n, 100*float64(n)/float64(d.m.Parameters()))
	cfg := train.Default()
	cfg.LearningRate, cfg.Epochs, cfg.BatchSize, cfg.GradAccum, cfg.Pack, cfg.Seed = learningRate, epochs, batchSize, 1, false, seed
	cfg.Output, cfg.SaveSteps = d.path("training"), 0
	var losses []float64
	cfg.Hooks = []train.Hook{train.Progress(func(s *train.Step) {
		losses = append(losses, s.Loss)
		if d.o.Progress != nil {
			d.o.Progress(s)
		}
	})}
	r, err := train.Run(d.ctx, cfg, d.m, d.adapter, d.trainSet)
	if err != nil {
		return err
	}
	res.FirstLoss, res.LastLoss = mean(losses[:min(5, len(losses))]), mean(losses[max(0, len(losses)-20):])
	d.say("             %d steps, %d tokens in %.0f s: %.0f tokens/s\n", r.Steps, r.Tokens, r.Elapsed.Seconds(), float64(r.Tokens)/r.Elapsed.Seconds())
	d.say("%s\n", asciigraph.Plot(smooth(losses), asciigraph.Height(9), asciigraph.Width(min(64, d.width-14)),
		asciigraph.Precision(2), asciigraph.Caption("loss on the answers, step by step")))
	return nil
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// smooth is a running mean over the last steps.
func smooth(x []float64) []float64 {
	const over = 10
	out := make([]float64, len(x))
	for i := range x {
		out[i] = mean(x[max(0, i-over+1) : i+1])
	}
	return out
}

func (d *run) after(res *Result) error {
	var err error
	if res.After, err = d.score(); err != nil {
		return err
	}
	d.say("After training:\n")
	d.show()
	d.say("Right on unseen passages: %s, before %s\n", d.share(res.After), d.share(res.Before))
	return nil
}

// merge saves the adapter, merges it into a GGUF file, and compares the logits
// of that file with those of base and adapter.
func (d *run) merge(res *Result) error {
	for _, name := range []string{"adapter", "merged.gguf"} { // of an earlier run in the same folder
		if err := os.RemoveAll(d.path(name)); err != nil {
			return err
		}
	}
	if err := peft.Save(d.ctx, d.path("adapter"), d.adapter, nil); err != nil {
		return err
	}
	rep, err := convert.Merge(d.ctx, d.path("austen.gguf"), []convert.AdapterRef{{Path: d.path("adapter"), Scale: 1}},
		d.path("merged.gguf"), convert.Options{Type: "f32"})
	if err != nil {
		return err
	}
	merged, err := model.Load(d.path("merged.gguf"), model.Options{})
	if err != nil {
		return err
	}
	defer merged.Close()
	tape := nn.NewTape()
	defer tape.Close()
	for i := range d.testSet.Examples[:min(10, len(d.testSet.Examples))] {
		b := d.testSet.Batch([]int{i})
		tape.Reset()
		l := d.m.Logits(tape, b, nil)
		want := append([]float32(nil), l.Mat().Data[:l.Rows*l.Cols]...)
		tape.Reset()
		got := merged.Logits(tape, b, nil).Mat().Data
		for j, v := range want {
			diff := math.Abs(float64(v - got[j]))
			if !(diff <= res.MergedMaxDiff) {
				res.MergedMaxDiff = diff
			}
		}
	}
	d.say("Merged       %d of %d tensors changed, written as GGUF (F32)", rep.Changed, rep.Tensors)
	d.say("Check        largest difference between the logits of merged.gguf and of base + adapter: %.1e", res.MergedMaxDiff)
	if !(res.MergedMaxDiff <= tolerance) {
		return fmt.Errorf("%w: a logit is off by %g, float32 explains %g", ErrCheck, res.MergedMaxDiff, tolerance)
	}
	return nil
}
