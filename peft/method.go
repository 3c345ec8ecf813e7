// Package peft is the seam between models and fine-tuning methods: what a
// method plug-in gives, the registry it enters, how its trainable parameters are
// named and saved, and how a saved adapter changes the weights of a base model.
//
// Methods live below plugins/, one folder each, and touch a model only through
// the modules that model.Model lists. Files follow Hugging Face PEFT 0.21.
package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/spell"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Errors that callers can test for.
var (
	// ErrNoMatch: an adapter or a target list fits no module of the model.
	ErrNoMatch = errors.New("nothing matched")
	// ErrConfig: a method's configuration is wrong or asks for something this build does not do.
	ErrConfig = errors.New("invalid adapter configuration")
	// ErrTensors: the tensors of an adapter file are missing, left over or of the wrong shape.
	ErrTensors = errors.New("adapter tensors do not fit")
	// ErrNotMergeable: the method changes the model in a way that weights cannot hold.
	ErrNotMergeable = errors.New("cannot be merged")
	// ErrNoFit: the method has nothing to hold on to in this model (BitFit without
	// biases); the error says what would fit.
	ErrNoFit = errors.New("the method does not fit this model")
)

// Info describes a method to people.
type Info struct {
	// Name is the word used with --method: "lora".
	Name string
	// Aliases are other words for it: "houlsby" for an adapter.
	Aliases []string
	// PeftType is peft_type in adapter_config.json: "LORA".
	PeftType string
	// Formerly lists what peft_type says in older files of the method.
	Formerly []string
	Group    Group
	// Preset names the method whose files these are: that method with other defaults,
	// as DoRA is LoRA's. "" for a method of its own.
	Preset string
	// Format is the kind of file it is saved in, as formats calls it; "" is "peft".
	Format string
	// NotMergeable says why the adapter cannot be written into weights; "" when it can.
	NotMergeable string
	Doc          string // one line
	// Reference is the paper or library that defines it.
	Reference string
	// Options lists the configuration keys a user sets, in the order to print them.
	Options []Option
	// LearningRate and WeightDecay are the defaults that are right for the method.
	LearningRate, WeightDecay float64
}

// Group is the family of methods in which surveys list a method.
type Group string

// The groups.
const (
	PromptBased       Group = "prompt"
	AdapterBased      Group = "adapter"
	Reparametrisation Group = "reparametrisation"
	Selective         Group = "selective"
)

// Option is one configuration key of a method.
type Option struct {
	Key     string // as in adapter_config.json: "r"
	Flag    string // as on the command line: "rank"; "" when only --set reaches it
	Default any
	// Needed is an example of the value of an option that has to be given.
	Needed string
	Doc    string
}

// Options are configuration values by key or flag name, as a user gave them:
// JSON-like values (string, bool, float64, int, []any, map[string]any).
type Options map[string]any

// Method is a plug-in.
type Method interface {
	Info() Info
	// New attaches a freshly initialised adapter to the model. The same seed
	// gives the same parameters.
	New(m *model.Model, o Options, seed uint64) (Adapter, error)
	// Load attaches a saved adapter. Every tensor of the file must find its
	// place and every place its tensor.
	Load(m *model.Model, a *formats.Adapter, scale float32) (Adapter, error)
}

// Adapter is a method attached to a model.
type Adapter interface {
	// Params lists the trainable parameters; their names and shapes are those of
	// the saved file.
	Params() []*nn.Param
	// Config returns adapter_config.json.
	Config() (json.RawMessage, error)
	// Summary says in one line what was attached where.
	Summary() string
}

// Merger is implemented by methods whose adapters can be written into weights.
type Merger interface {
	// Changes lists what the adapter does to the tensors of a base model.
	Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*ChangeSet, error)
}

// GGUFConverter is implemented by methods that have a form in GGUF adapters.
type GGUFConverter interface {
	// ToGGUF turns a Hugging Face adapter into a GGUF one; notes tells what was
	// rewritten on the way.
	ToGGUF(a *formats.Adapter, n *model.Names) (out *formats.OutAdapter, notes []string, err error)
	// FromGGUF turns a GGUF adapter into a Hugging Face one.
	FromGGUF(a *formats.Adapter, n *model.Names) (out *formats.Adapter, notes []string, err error)
}

// Change is what an adapter does to one tensor of the base model.
type Change struct {
	Tensor string // Hugging Face name with .weight or .bias
	// Apply changes logical rows r0 to r1 of the tensor, given as float32 in w.
	// It may be called from several goroutines on different rows.
	Apply func(w []float32, r0, r1 int)
	// Whole says that Apply wants all rows in one call: the change of one row
	// depends on others.
	Whole bool
	// Replace, when not nil, gives the new content instead: a full copy of shape
	// Shape that the adapter carries (modules_to_save).
	Shape   []int
	Replace func(dst []float32, r0, r1 int) error
	// New says that the base may lack the tensor: the head of a task, which the
	// merged model then has.
	New bool
	// Tied says that the change is of the tensor that several modules share (an
	// output embedding that is the input embedding): it reaches all of them.
	Tied bool
}

// ChangeSet is the effect of one adapter on a base model.
type ChangeSet struct {
	Changes []Change
	// Matched counts the adapter's tensors that found their place.
	Matched int
	// Unmatched lists the adapter's tensors that did not.
	Unmatched []string
}

var (
	methods = map[string]Method{} // by name
	words   = map[string]Method{} // by name and alias
)

// Register adds a method. It panics when its name or PEFT type is empty or
// taken, a preset's type aside: that is a mistake in the program, found at start.
func Register(m Method) {
	i := m.Info()
	if i.Name == "" || i.PeftType == "" {
		panic("peft: Register of a method without name or PEFT type")
	}
	for _, o := range methods {
		if o.Info().PeftType == i.PeftType && i.Preset == "" && o.Info().Preset == "" {
			panic("peft: PEFT type registered twice: " + i.PeftType)
		}
	}
	for _, n := range append([]string{i.Name}, i.Aliases...) {
		if words[n] != nil {
			panic("peft: method registered twice: " + n)
		}
		words[n] = m
	}
	methods[i.Name] = m
}

// Methods lists the registered methods, sorted by name.
func Methods() []Method {
	out := make([]Method, 0, len(methods))
	for _, m := range methods {
		out = append(out, m)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Info().Name < out[j].Info().Name })
	return out
}

// ByName returns a method by its command-line name or an alias.
func ByName(name string) (Method, error) {
	if m := words[strings.ToLower(name)]; m != nil {
		return m, nil
	}
	return nil, &spell.UnknownError{Kind: "method", Word: name, Near: spell.Nearest(name, slices.Sorted(maps.Keys(words))), Known: names(), Err: ErrConfig}
}

// Size returns the number of parameters that a fresh adapter of a method trains, or
// the error of New. m is built for this call: it is of no use afterwards.
func Size(method Method, m *model.Model, o Options, seed uint64) (int64, error) {
	if s, ok := method.(Sizer); ok {
		return s.Size(m, o, seed)
	}
	ad, err := method.New(m, o, seed)
	if err != nil {
		return 0, err
	}
	return Elements(ad.Params()), nil
}

// Elements counts the numbers in parameters.
func Elements(params []*nn.Param) int64 {
	var n int64
	for _, p := range params {
		n += int64(len(p.V.Data))
	}
	return n
}

// ByPeftType returns the method that reads adapters of a peft_type.
func ByPeftType(t string) (Method, error) {
	for _, m := range methods {
		if i := m.Info(); i.Preset == "" && (i.PeftType == t || slices.Contains(i.Formerly, t)) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("adapter_config.json: peft_type %q is of no method in this peftkit, which has %s: %w", t, strings.Join(names(), ", "), ErrConfig)
}

func names() []string {
	var out []string
	for _, m := range Methods() {
		out = append(out, m.Info().Name)
	}
	return out
}
