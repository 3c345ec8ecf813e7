package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
)

// taskWords are the tasks as people write them.
var taskWords = []struct {
	word string
	task model.Task
	doc  string
}{
	{"causal-lm", model.CausalLM, "text generation"},
	{"seq2seq", model.Seq2SeqLM, "text to text"},
	{"seq-cls", model.SequenceClassification, "text classification"},
	{"token-cls", model.TokenClassification, "token classification"},
}

var problemWords = []struct {
	word    string
	problem model.Problem
}{{"single-label", model.SingleLabel}, {"multi-label", model.MultiLabel}, {"regression", model.Regression}}

// taskText names a task for people.
func taskText(t model.Task) string {
	for _, w := range taskWords {
		if w.task == t {
			return w.doc
		}
	}
	return strings.ToLower(string(t))
}

// taskFlags say what the head of a model is for.
type taskFlags struct{ task, labels, problem *string }

func addTaskFlags(f *flags) *taskFlags {
	var tasks, problems []string
	for _, w := range taskWords {
		tasks = append(tasks, w.word)
	}
	for _, w := range problemWords {
		problems = append(problems, w.word)
	}
	return &taskFlags{
		task:    f.oneOf("task", "", "", "what the model is for (default: what the adapter, the model or the data say)", tasks...),
		labels:  f.text("labels", "", "A,B,...", "", "names of the classes in order, or a file with one on each line (default: those of the adapter, the model or the data)"),
		problem: f.oneOf("problem", "", "", "what a text classifier learns (default: what the labels look like)", problems...),
	}
}

// options turns the flags into those of package model.
func (t *taskFlags) options() (model.Options, error) {
	var o model.Options
	for _, w := range taskWords {
		if w.word == *t.task {
			o.Task = w.task
		}
	}
	for _, w := range problemWords {
		if w.word == *t.problem {
			o.Problem = w.problem
		}
	}
	if *t.labels == "" {
		return o, nil
	}
	text, sep := *t.labels, ","
	if b, err := os.ReadFile(text); err == nil {
		text, sep = strings.TrimSpace(string(b)), "\n"
	}
	for _, l := range strings.Split(text, sep) {
		l = strings.TrimSpace(l)
		if l == "" || slices.Contains(o.Labels, l) {
			return o, usagef("--labels: %q is empty or given twice", l)
		}
		o.Labels = append(o.Labels, l)
	}
	return o, nil
}

// adapterOptions returns what a saved adapter says about its task: task_type, and
// the label names beside it. The first part of a combination that has a task
// speaks for all.
func adapterOptions(path string) (model.Options, error) {
	var o model.Options
	parts, err := peft.Parts(path)
	if err != nil {
		return o, err
	}
	for _, p := range parts {
		if o, err = partOptions(p); err != nil || o.Task != "" {
			break
		}
	}
	if err != nil {
		return o, err
	}
	b, err := os.ReadFile(filepath.Join(path, data.LabelFile))
	if err != nil {
		return o, nil // a file, or an adapter without labels
	}
	labels, problem, err := data.ReadLabels(b)
	if err != nil {
		return o, withCode(exitFormat, formats.At(path, err))
	}
	if n := len(o.Labels); n > 0 && n != len(labels) {
		return o, withCode(exitFormat, fmt.Errorf("%s: %s names %d labels, the adapter's head has %d", path, data.LabelFile, len(labels), n))
	}
	o.Labels, o.Problem = labels, problem
	return o, nil
}

func partOptions(path string) (model.Options, error) {
	a, err := peft.Read(path)
	if err != nil {
		return model.Options{}, err
	}
	defer a.Close()
	if a.Naming != formats.HF {
		return model.Options{}, nil // GGUF adapters are of causal models
	}
	return peft.OptionsFor(a)
}

// over puts what o says before what other says.
func over(o, other model.Options) model.Options {
	if o.Task == "" {
		o.Task = other.Task
	}
	if o.Task != model.SequenceClassification && o.Task != model.TokenClassification {
		return o
	}
	if o.Labels == nil {
		o.Labels = other.Labels
	}
	if o.Problem == "" {
		o.Problem = other.Problem
	}
	return o
}

// choose completes the options of a model that is to read data. note tells what
// the data decided.
func (o *dataSource) choose(c *model.Checkpoint, opts model.Options) (model.Options, string, error) {
	opts, decided, err := data.HeadFor(o.path, o.options, c, opts)
	if err != nil || decided == "" {
		return opts, "", err
	}
	return opts, fmt.Sprintf("the model is a bare %s: the data (%s) make it %s", c.Family.Name(), decided, taskText(opts.Task)), nil
}

// dataSource is a data set that may decide what a model is for.
type dataSource struct {
	path    string
	options data.Options // columns, names and part
}

// dataOptions completes options of package data by what the model says.
func (l *loaded) dataOptions(o data.Options) data.Options {
	o.Task, o.Labels, o.Problem, o.Start = l.Options.Task, l.Options.Labels, l.Options.Problem, l.Start
	o.Tasks, o.TaskNames, o.TaskID = l.Tasks, l.taskNames, l.taskID
	// What methods put before a text takes positions of the model.
	if l.MaxPositions > 0 && o.MaxTargetLen > l.MaxPositions {
		o.MaxTargetLen = l.MaxPositions
	}
	if o.ChatTemplate == "" {
		o.ChatTemplate = l.template
	}
	return o
}

// warnFresh tells of a head that nobody has trained.
func (a *app) warnFresh(l *loaded, trained bool) {
	if len(l.Fresh) == 0 || trained {
		return
	}
	a.warn("the head is untrained, its answers mean nothing: the model has no %s; give the adapter that was trained with it (--lora)", strings.Join(l.Fresh, ", "))
}

// openWith opens a model and its tokenizer; pick completes the options of the head.
func (a *app) openWith(path string, pick func(c *model.Checkpoint, tok *tokenizer.Tokenizer) (model.Options, error)) (*loaded, error) {
	c, err := model.Open(path)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*loaded, error) {
		return nil, errors.Join(err, c.Close())
	}
	tok, err := tokenizer.FromModel(c.Source)
	if err != nil {
		return fail(withCode(exitFormat, err))
	}
	for _, w := range tok.Warnings() {
		a.warn("tokenizer: %s", w)
	}
	o, err := pick(c, tok)
	if err != nil {
		return fail(err)
	}
	m, err := model.Build(c, o)
	if err != nil {
		return fail(err)
	}
	return &loaded{Model: m, tok: tok, vocab: m.VocabSize}, nil
}
