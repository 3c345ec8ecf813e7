package model

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// Task is what a model's head is for, in the words of PEFT's task_type.
type Task string

// The tasks that families compute.
const (
	CausalLM               Task = "CAUSAL_LM"
	Seq2SeqLM              Task = "SEQ_2_SEQ_LM"
	SequenceClassification Task = "SEQ_CLS"
	TokenClassification    Task = "TOKEN_CLS"
	FeatureExtraction      Task = "FEATURE_EXTRACTION"
)

// Generates reports whether the task writes text.
func (t Task) Generates() bool { return t == CausalLM || t == Seq2SeqLM }

// Problem is transformers' problem_type of a sequence classifier.
type Problem string

// The kinds of targets of a sequence classifier.
const (
	SingleLabel Problem = "single_label_classification"
	MultiLabel  Problem = "multi_label_classification"
	Regression  Problem = "regression"
)

// Options choose the head of a model.
type Options struct {
	// Task of the head; "" is what the checkpoint's architecture says.
	Task Task
	// Labels are the names of the classes (id2label), for classification; nil takes
	// those of the checkpoint.
	Labels []string
	// Problem of a sequence classifier; "" takes the checkpoint's, else
	// regression for a single label and one class per sequence for more.
	Problem Problem
	// Seed of a head that the checkpoint does not have.
	Seed uint64
}

// heads are the endings of transformers' class names.
var heads = []struct {
	suffix string
	task   Task
}{
	{"ForSequenceClassification", SequenceClassification},
	{"ForTokenClassification", TokenClassification},
	{"ForConditionalGeneration", Seq2SeqLM},
	{"MTModel", Seq2SeqLM}, // MarianMTModel
	{"ForCausalLM", CausalLM},
	{"LMHeadModel", CausalLM}, // GPT2LMHeadModel
}

// Suffix returns the ending of transformers' class name for a task of a family:
// "ForSequenceClassification". It is empty for tasks without a fixed one.
func (t Task) Suffix() string {
	for _, h := range heads {
		if h.task == t {
			return h.suffix
		}
	}
	return ""
}

// Architecture returns the class of a task next to a class of the same family:
// BertModel and SEQ_CLS give BertForSequenceClassification.
func Architecture(class string, t Task) string {
	if t.Suffix() == "" {
		return class
	}
	for _, h := range heads {
		if base, ok := strings.CutSuffix(class, h.suffix); ok {
			return base + t.Suffix()
		}
	}
	return strings.TrimSuffix(class, "Model") + t.Suffix()
}

// headConfig is what config.json says about the head.
type headConfig struct {
	Architectures []string          `json:"architectures"`
	ID2Label      map[string]string `json:"id2label"`
	NumLabels     int               `json:"num_labels"`
	ProblemType   Problem           `json:"problem_type"`
}

// Purposed is a family whose checkpoints have a purpose even where architectures
// names a class without a head, or none at all: BartModel is an encoder-decoder, and
// its output embedding is its input embedding.
type Purposed interface {
	Purpose(config json.RawMessage) Task
}

// Resolve returns the options completed by what the checkpoint says, as Build
// does. The task stays empty when neither says what the model is for.
func (o Options) Resolve(c *Checkpoint) (Options, error) { return o.resolve(c) }

// resolve fills in what the checkpoint says.
func (o Options) resolve(c *Checkpoint) (Options, error) {
	var h headConfig
	if len(c.Config) > 0 {
		if err := json.Unmarshal(c.Config, &h); err != nil {
			return o, fmt.Errorf("%s: config.json: %w", c.Source.Path, err)
		}
	}
	if o.Task == "" && len(h.Architectures) > 0 {
		for _, k := range heads {
			if strings.HasSuffix(h.Architectures[0], k.suffix) {
				o.Task = k.task
				break
			}
		}
	}
	if f, ok := c.Family.(Purposed); ok && o.Task == "" {
		o.Task = f.Purpose(c.Config)
	}
	if o.Task != SequenceClassification && o.Task != TokenClassification {
		return o, nil
	}
	if o.Labels == nil {
		n := len(h.ID2Label)
		if n == 0 {
			n = max(h.NumLabels, 0)
		}
		if n == 0 {
			n = 2 // transformers' default
		}
		for i := range n {
			name := h.ID2Label[fmt.Sprint(i)]
			if name == "" {
				name = fmt.Sprintf("LABEL_%d", i)
			}
			o.Labels = append(o.Labels, name)
		}
	}
	if len(o.Labels) == 0 {
		return o, fmt.Errorf("%s: a classifier needs at least one label: %w", c.Source.Path, ErrMismatch)
	}
	if o.Task == SequenceClassification && o.Problem == "" {
		o.Problem = h.ProblemType
		if o.Problem == "" {
			if o.Problem = SingleLabel; len(o.Labels) == 1 {
				o.Problem = Regression
			}
		}
	}
	if o.Task == SequenceClassification && !slices.Contains([]Problem{SingleLabel, MultiLabel, Regression}, o.Problem) {
		return o, fmt.Errorf("%s: problem_type %q: expected %s, %s or %s: %w", c.Source.Path, o.Problem, SingleLabel, MultiLabel, Regression, ErrMismatch)
	}
	return o, nil
}

// Refuse returns the error about a task that a family has no head for.
func (o Options) Refuse(family string, has ...Task) error {
	var names []string
	for _, t := range has {
		names = append(names, string(t))
	}
	if o.Task == "" {
		return fmt.Errorf("the checkpoint is a bare %s without a head: %w; say what it is for: %s", family, ErrUnsupported, strings.Join(names, ", "))
	}
	return fmt.Errorf("task %s: %w by the %s family, which has %s", o.Task, ErrUnsupported, family, strings.Join(names, ", "))
}

// HeadWeight returns a weight of a task's head: the checkpoint's, or one drawn
// from a normal distribution of the given deviation (transformers'
// initializer_range) when the checkpoint has none, which Fresh then lists. A
// vector begins with zeros.
func (m *Model) HeadWeight(o Options, hf string, sigma float64, shape ...int) (*nn.Weight, error) {
	w, err := m.LoadWeight(hf)
	if err != nil {
		return nil, err
	}
	if w != nil {
		want := shape
		if len(shape) == 1 {
			want = []int{1, shape[0]}
		}
		if w.Out != want[0] || w.In != want[1] {
			return nil, fmt.Errorf("%s is [%d %d], the head of %d labels wants %v: %w; give the labels it was trained with", hf, w.Out, w.In, len(o.Labels), shape, ErrMismatch)
		}
		return w, nil
	}
	m.Fresh = append(m.Fresh, hf)
	n := 1
	for _, d := range shape {
		n *= d
	}
	v := make([]float32, n)
	if len(shape) == 1 {
		return nn.VectorWeight(hf, v), nil
	}
	seed := o.Seed
	for _, b := range []byte(hf) {
		seed = (seed ^ uint64(b)) * 0x100000001b3
	}
	rng := rand.New(rand.NewPCG(seed, math.Float64bits(sigma)))
	for i := range v {
		v[i] = float32(sigma * rng.NormFloat64())
	}
	f, err := tensor.FromFloats(hf, shape, v).Weight()
	if err != nil {
		return nil, err
	}
	return &nn.Weight{Name: hf, Out: shape[0], In: shape[1], Frozen: f}, nil
}
