// Package compare trains a list of methods on a list of tasks with several seeds
// and makes the table that surveys of parameter-efficient fine-tuning print:
// scores with their spread, trained parameters, time and memory.
//
// A [Run] is one training with one method, task and seed, described completely, so
// that it can be done in a process of its own (whose peak memory is then its own)
// and need not be done again. [Execute] does the runs of a [Plan], [Summarise]
// makes a [Report] of their outcomes, and the report writes itself as Markdown
// or as one page of HTML without anything outside it.
package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
)

// None is the word for the untouched base, which is evaluated and not trained.
const None = "none"

// ErrPlan is wrapped by errors about a plan that makes no sense.
var ErrPlan = errors.New("invalid comparison")

// Source is a data file or folder and how it is read.
type Source struct {
	// Path of a file, or of a folder with train.* and test.* or valid.*.
	Path string `json:"path"`
	// Columns are data.Options.Columns, Names its Names.
	Columns data.Columns `json:"columns,omitempty"`
	Names   []string     `json:"names,omitempty"`
	// Hash is the SHA-256 of the content; Fingerprint sets it.
	Hash string `json:"hash,omitempty"`
}

// Task is what the methods are compared on.
type Task struct {
	Name  string `json:"name"`
	Train Source `json:"train"`
	// Eval is what the score is measured on. Without a path it is the test or valid
	// part of the training folder, else a fifth of the training data, put aside.
	Eval Source `json:"eval"`
	// Keep is a second set on which the same model is measured: what it should not
	// unlearn. KeepMetric is its metric, "" for that of the task.
	Keep       *Source `json:"keep,omitempty"`
	KeepMetric string  `json:"keep_metric,omitempty"`
	// Head, Labels and Problem are model.Options; empty ones are what model and data say.
	Head    model.Task    `json:"task,omitempty"`
	Labels  []string      `json:"labels,omitempty"`
	Problem model.Problem `json:"problem,omitempty"`
	// Metric is the score: a name of train.EvalResult.Metrics, or exact_match; "" is
	// the main metric of the task.
	Metric string `json:"metric,omitempty"`
	Budget
}

// Budget says how much a run may cost. In a task a field that is not 0 replaces
// the plan's.
type Budget struct {
	Epochs   float64 `json:"epochs,omitempty" yaml:"epochs"`
	MaxSteps int     `json:"max_steps,omitempty" yaml:"max_steps"`
	// MaxTrain and MaxEval are the most examples to train and evaluate on, the same
	// for all methods and seeds.
	MaxTrain int `json:"max_train,omitempty" yaml:"max_train"`
	MaxEval  int `json:"max_eval,omitempty" yaml:"max_eval"`
	// MaxSeqLen and MaxTargetLen cut examples.
	MaxSeqLen    int `json:"max_seq_len,omitempty" yaml:"max_seq_len"`
	MaxTargetLen int `json:"max_target_len,omitempty" yaml:"max_target_len"`
	BatchSize    int `json:"batch_size,omitempty" yaml:"batch_size"`
	GradAccum    int `json:"grad_accum,omitempty" yaml:"grad_accum"`
	// NoBaseDropout leaves out the dropout of the model's config.json. Runs say it the
	// other way round.
	NoBaseDropout bool `json:"-" yaml:"no_base_dropout"`
}

// over replaces what b sets.
func (b Budget) over(plan Budget) Budget {
	if b.MaxSteps == 0 && b.Epochs == 0 {
		b.MaxSteps, b.Epochs = plan.MaxSteps, plan.Epochs
	}
	for _, f := range []struct{ own, other *int }{
		{&b.MaxTrain, &plan.MaxTrain}, {&b.MaxEval, &plan.MaxEval}, {&b.MaxSeqLen, &plan.MaxSeqLen}, {&b.MaxTargetLen, &plan.MaxTargetLen},
		{&b.BatchSize, &plan.BatchSize}, {&b.GradAccum, &plan.GradAccum},
	} {
		if *f.own == 0 {
			*f.own = *f.other
		}
	}
	b.NoBaseDropout = b.NoBaseDropout || plan.NoBaseDropout
	return b
}

// Plan is a comparison.
type Plan struct {
	Model   string
	Tasks   []Task
	Methods []string // words of --method; None for the untouched base
	Seeds   []uint64
	Budget  Budget
	// Options of methods: "lora.r" for one, "r" for all that have it.
	Options map[string]any
	// Rates replace the learning rates of methods, by the word.
	Rates map[string]float64
}

// Run is one training, described completely.
type Run struct {
	Model   string         `json:"model"`
	Base    string         `json:"base_hash,omitempty"` // tells another model at the same path
	Task    Task           `json:"task"`
	Method  string         `json:"method"`
	Options map[string]any `json:"options,omitempty"`
	Rate    float64        `json:"learning_rate,omitempty"` // 0 is the method's
	Seed    uint64         `json:"seed"`
	// BaseDropout is train.Config's; it is not in results from before it was.
	BaseDropout bool `json:"base_dropout,omitempty"`
}

// Key identifies a run: what has the same key has the same result.
func (r *Run) Key() string {
	b, err := json.Marshal(r)
	if err != nil {
		return "" // nothing in a run fails to marshal
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Point is a training step of a learning curve.
type Point struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
}

// Outcome is what became of a run.
type Outcome struct {
	Run Run    `json:"run"`
	Key string `json:"key"`
	// Metric is the name of the score.
	Metric  string             `json:"metric,omitempty"`
	Score   float64            `json:"score"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Kept is the score on Task.Keep, null without one.
	Kept       *float64 `json:"kept,omitempty"`
	KeptMetric string   `json:"kept_metric,omitempty"`
	// Trainable parameters, and those of the model.
	Trainable int64 `json:"trainable_parameters"`
	Total     int64 `json:"model_parameters"`
	// Rate is the learning rate that was used.
	Rate float64 `json:"learning_rate,omitempty"`
	// Steps and the seconds that training took; Peak is the highest memory of the
	// process, evaluation included.
	Steps   int     `json:"steps"`
	Seconds float64 `json:"seconds"`
	// CPUSeconds is the processor time of the same training, over all cores: it tells
	// the work where other programs take their share of the machine. 0 where the
	// system does not tell.
	CPUSeconds      float64 `json:"cpu_seconds,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Peak            int64   `json:"peak_memory_bytes"`
	Curve           []Point `json:"curve,omitempty"`
	// Problem says why the method does not fit the model: nothing was trained.
	Problem string `json:"problem,omitempty"`
	// Failure says what went wrong; such a run is done again when asked for.
	Failure string `json:"failure,omitempty"`
	// Drawn says that the base's head is random: each seed has another.
	Drawn bool `json:"drawn_head,omitempty"`
	// Group of the method, and notes on the data.
	Group string   `json:"group,omitempty"`
	Notes []string `json:"notes,omitempty"`
}

// OK reports whether there is a score.
func (o *Outcome) OK() bool { return o.Problem == "" && o.Failure == "" }

// Runs lists the runs of a plan: task by task, all methods with the first seed,
// then with the next, so that an early look shows every method.
func (p *Plan) Runs() ([]Run, error) {
	switch {
	case len(p.Tasks) == 0:
		return nil, fmt.Errorf("%w: no task", ErrPlan)
	case len(p.Methods) == 0:
		return nil, fmt.Errorf("%w: no method", ErrPlan)
	case len(p.Seeds) == 0:
		return nil, fmt.Errorf("%w: no seed", ErrPlan)
	}
	for i, m := range p.Methods {
		if slices.Contains(p.Methods[:i], m) {
			return nil, fmt.Errorf("%w: method %s stands twice", ErrPlan, m)
		}
	}
	base, err := hashModel(p.Model)
	if err != nil {
		return nil, err
	}
	var out []Run
	for i, t := range p.Tasks {
		if slices.ContainsFunc(p.Tasks[:i], func(o Task) bool { return o.Name == t.Name }) {
			return nil, fmt.Errorf("%w: task %s stands twice", ErrPlan, t.Name)
		}
		t.Budget = t.Budget.over(p.Budget)
		for _, s := range []*Source{&t.Train, &t.Eval} {
			if err := s.Fingerprint(); err != nil {
				return nil, fmt.Errorf("task %s: %w", t.Name, err)
			}
		}
		if t.Keep != nil {
			k := *t.Keep
			if err := k.Fingerprint(); err != nil {
				return nil, fmt.Errorf("task %s: keep: %w", t.Name, err)
			}
			t.Keep = &k
		}
		for _, seed := range p.Seeds {
			for _, m := range p.Methods {
				out = append(out, Run{Model: p.Model, Base: base, Task: t, Method: m, Options: p.optionsOf(m), Rate: p.Rates[m], Seed: seed,
					BaseDropout: !t.NoBaseDropout && m != None})
			}
		}
	}
	return out, nil
}

// optionsOf keeps the options that concern a method, so that those of another
// leave its results valid.
func (p *Plan) optionsOf(method string) map[string]any {
	if method == None {
		return nil
	}
	out := map[string]any{}
	for k, v := range p.Options {
		owner, _, named := strings.Cut(k, ".")
		if !named || slices.Contains(strings.Split(method, "+"), owner) {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// Fingerprint hashes the content of a source. A folder's data files count, in
// the order of their names.
func (s *Source) Fingerprint() error {
	if s.Path == "" {
		return nil
	}
	st, err := os.Stat(s.Path)
	if err != nil {
		return err
	}
	files := []string{s.Path}
	if st.IsDir() {
		if files, err = data.Files(s.Path); err != nil {
			return err
		}
	}
	h := sha256.New()
	for _, f := range files {
		if err := hashFile(h, f, -1); err != nil {
			return err
		}
	}
	s.Hash = hex.EncodeToString(h.Sum(nil)[:8])
	return nil
}

// hashModel tells models apart by their files' sizes and first megabytes.
func hashModel(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	files := []string{path}
	if st.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*")); err != nil {
			return "", err
		}
	}
	h := sha256.New()
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil || st.IsDir() {
			continue
		}
		fmt.Fprintf(h, "%s %d\n", filepath.Base(f), st.Size())
		if err := hashFile(h, f, 1<<20); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

func hashFile(w io.Writer, path string, most int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = f
	if most >= 0 {
		r = io.LimitReader(f, most)
	}
	_, err = io.Copy(w, r)
	return err
}
