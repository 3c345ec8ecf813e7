package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

// drawSeed chooses what is put aside and sampled: the same for every run, so that
// seeds differ in training alone.
const drawSeed = 42

// ExactMatch is the metric that lets the model write its answers.
const ExactMatch = "exact_match"

// fresh is a loaded model with its data.
type fresh struct {
	*model.Model
	tok         *tokenizer.Tokenizer
	train, eval *data.Dataset
	keep        *data.Dataset
}

// Do trains and evaluates in this process. progress, when not nil, is called
// after each step. A method that does not fit the model is an outcome, any other
// error is returned.
func Do(ctx context.Context, r Run, progress func(*train.Step)) (*Outcome, error) {
	f, err := r.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &Outcome{Run: r, Key: r.Key(), Total: f.Parameters(), Group: None}
	out.Notes = f.notes()
	if r.Method == None {
		if out.Drawn = len(f.Fresh) > 0; out.Drawn {
			out.Notes = append(out.Notes, "the head of the untouched base is drawn at random")
		}
	} else if err := r.train(ctx, f, out, progress); err != nil || out.Problem != "" {
		return out, err
	}
	e, err := measure(ctx, f, f.eval, r.Task.Metric)
	if err != nil {
		return nil, err
	}
	out.Metric, out.Score, out.Metrics = e.Metric, e.Score, finite(e.Metrics)
	if f.keep != nil {
		metric := r.Task.KeepMetric
		if metric == "" {
			metric = r.Task.Metric
		}
		k, err := measure(ctx, f, f.keep, metric)
		if err != nil {
			return nil, fmt.Errorf("keep: %w", err)
		}
		out.Kept, out.KeptMetric = &k.Score, k.Metric
	}
	out.Peak = train.MemoryUse().Peak
	return out, nil
}

// notes says what the user should know about the training data.
func (f *fresh) notes() []string {
	var out []string
	for _, n := range f.train.Stats.Notes() {
		out = append(out, "training data: "+n)
	}
	return out
}

// finite leaves out what JSON cannot hold.
func finite(m map[string]float64) map[string]float64 {
	out := map[string]float64{}
	for k, v := range m {
		if v-v == 0 {
			out[k] = v
		}
	}
	return out
}

// open loads the model with the head that the task asks for, and the data.
func (r *Run) open() (*fresh, error) {
	t := &r.Task
	c, err := model.Open(r.Model)
	if err != nil {
		return nil, err
	}
	f := &fresh{}
	fail := func(err error) (*fresh, error) { return nil, errors.Join(err, c.Close()) }
	if f.tok, err = tokenizer.FromModel(c.Source); err != nil {
		return fail(err)
	}
	src := data.Options{Columns: t.Train.Columns, Names: t.Train.Names, Part: "train"}
	o, _, err := data.HeadFor(t.Train.Path, src, c, model.Options{Task: t.Head, Labels: t.Labels, Problem: t.Problem})
	if err != nil {
		return fail(err)
	}
	o.Seed = r.Seed
	if f.Model, err = model.Build(c, o); err != nil {
		return fail(err)
	}
	if err := f.load(t); err != nil {
		return fail(err)
	}
	return f, nil
}

// load reads the data of a task.
func (f *fresh) load(t *Task) error {
	length := t.MaxSeqLen
	if length == 0 {
		length = 512
	}
	length = min(length, f.MaxPositions)
	var names []string // of tasks that the method tells apart
	read := func(s Source, part string) (*data.Dataset, error) {
		return data.Load(s.Path, data.Options{
			Tokenizer: f.tok, MaxSeqLen: length, MaxTargetLen: t.MaxTargetLen, Columns: s.Columns, Names: s.Names, Part: part,
			Task: f.Options.Task, Labels: f.Options.Labels, Problem: f.Options.Problem, Start: f.Start,
			Tasks: f.Tasks, TaskNames: names,
		})
	}
	var err error
	if f.train, err = read(t.Train, "train"); err != nil {
		return err
	}
	names = f.train.TaskNames
	eval := t.Eval
	part := evalPart(eval.Path)
	if eval.Path == "" {
		if part = evalPart(t.Train.Path); part != "train" {
			eval = t.Train
		}
	}
	if eval.Path == "" {
		if f.train, f.eval, err = f.train.Split(0.2, drawSeed); err != nil {
			return err
		}
	} else if f.eval, err = read(eval, part); err != nil {
		return err
	}
	f.train, f.eval = f.train.Sample(t.MaxTrain, drawSeed), f.eval.Sample(t.MaxEval, drawSeed)
	if t.Keep != nil {
		if f.keep, err = read(*t.Keep, evalPart(t.Keep.Path)); err != nil {
			return fmt.Errorf("keep: %w", err)
		}
		f.keep = f.keep.Sample(t.MaxEval, drawSeed)
	}
	return nil
}

// evalPart is the part of a folder to measure on: test, else valid, else train,
// which is also that of a file.
func evalPart(path string) string {
	have, err := data.Parts(path)
	if err != nil {
		return "train" // reading says what is wrong
	}
	for _, p := range []string{"test", "valid"} {
		if slices.Contains(have, p) {
			return p
		}
	}
	return "train"
}

// train attaches a fresh adapter and trains it.
func (r *Run) train(ctx context.Context, f *fresh, out *Outcome, progress func(*train.Step)) error {
	methods, err := peft.ParseMethods(r.Method)
	if err != nil {
		return err
	}
	first := methods[0].Info()
	if out.Group = string(first.Group); len(methods) > 1 {
		out.Group = "combination"
	}
	parts, err := peft.SplitOptions(methods, known(methods, r.Options))
	if err != nil {
		return err
	}
	ad, err := peft.New(f.Model, parts, r.Seed)
	if errors.Is(err, peft.ErrNoFit) || errors.Is(err, peft.ErrNoMatch) || errors.Is(err, peft.ErrConfig) {
		out.Problem = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	// A method may take positions from the texts, and tell tasks apart.
	if f.train.MaxSeqLen > f.MaxPositions || f.Tasks > 0 {
		if err := f.load(&r.Task); err != nil {
			return err
		}
		out.Notes = f.notes()
	}
	c := train.Default()
	c.Seed, c.SaveSteps, c.BaseDropout = r.Seed, 0, r.BaseDropout
	if r.Rate > 0 {
		c.LearningRate = r.Rate
	}
	if r.Task.Epochs > 0 {
		c.Epochs = r.Task.Epochs
	}
	c.MaxSteps = r.Task.MaxSteps
	if r.Task.BatchSize > 0 {
		c.BatchSize = r.Task.BatchSize
	}
	if r.Task.GradAccum > 0 {
		c.GradAccum = r.Task.GradAccum
	}
	if c, err = c.For(ad, f.train); err != nil {
		return err
	}
	out.Rate = c.LearningRate
	var curve []Point
	c.Hooks = []train.Hook{train.Progress(func(s *train.Step) {
		if len(curve) == 0 { // methods that choose by the data have chosen
			out.Trainable = count(ad.Params())
		}
		curve = append(curve, Point{s.Step, s.Loss})
		if progress != nil {
			progress(s)
		}
	})}
	began := cpuSeconds()
	res, err := train.Run(ctx, c, f.Model, ad, f.train)
	if err != nil {
		return err
	}
	out.CPUSeconds = cpuSeconds() - began
	out.Steps, out.Seconds, out.Curve = res.Steps, res.Elapsed.Seconds(), thin(curve, 100)
	if out.Seconds > 0 {
		out.TokensPerSecond = float64(res.Tokens) / out.Seconds
	}
	return nil
}

// known keeps the options that a method has; those of all methods need not suit each.
func known(methods []peft.Method, o map[string]any) peft.Options {
	out := peft.Options{}
	for k, v := range o {
		if strings.Contains(k, ".") {
			out[k] = v
			continue
		}
		for _, m := range methods {
			if slices.ContainsFunc(m.Info().Options, func(p peft.Option) bool { return p.Key == k || p.Flag == k }) {
				out[k] = v
			}
		}
	}
	return out
}

func count(params []*nn.Param) (n int64) {
	for _, p := range params {
		n += int64(len(p.V.Data))
	}
	return n
}

// thin averages a curve over neighbours to about n points.
func thin(curve []Point, n int) []Point {
	if len(curve) <= n {
		return curve
	}
	out := make([]Point, n)
	for i := range out {
		lo, hi := i*len(curve)/n, (i+1)*len(curve)/n
		var sum float64
		for _, p := range curve[lo:hi] {
			sum += p.Loss
		}
		out[i] = Point{curve[hi-1].Step, sum / float64(hi-lo)}
	}
	return out
}

// measure evaluates on a set by a metric.
func measure(ctx context.Context, f *fresh, ds *data.Dataset, metric string) (*train.EvalResult, error) {
	e, err := train.Evaluate(ctx, f.Model, ds)
	if err != nil {
		return nil, err
	}
	switch v, ok := e.Metrics[metric]; {
	case metric == "":
	case ok:
		e.Set(metric, v)
	case metric == ExactMatch && e.Task.Generates():
		m, err := generate.ExactMatch(ctx, f.Model, f.tok, ds, nil)
		if err != nil {
			return nil, err
		}
		e.Set(ExactMatch, m.Score())
	default:
		var have []string
		for name := range e.Metrics {
			have = append(have, name)
		}
		if e.Task.Generates() {
			have = append(have, ExactMatch)
		}
		slices.Sort(have)
		return nil, fmt.Errorf("%w: metric %q: the task has %s", ErrPlan, metric, strings.Join(have, ", "))
	}
	return e, nil
}
