// Package model turns opened files into models: it knows families (Llama, ...),
// their configuration, their tensor names in Hugging Face and llama.cpp spelling,
// and builds the tree of modules that methods attach to and the trainer runs.
//
// Everything above this package sees Hugging Face names and Hugging Face row
// order, whatever file the model came from. A new family is one folder below
// this one whose init calls [Register].
package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// ErrUnsupported is wrapped by errors about a model that was read well but is of
// a family, variant or option that this build cannot compute.
var ErrUnsupported = errors.New("unsupported model")

// ErrMismatch is wrapped by errors about tensors that are missing, left over or
// of the wrong shape for the configuration.
var ErrMismatch = errors.New("tensors do not fit the configuration")

// Entry is one tensor of a checkpoint under both of its names. T has Hugging
// Face's name, shape and logical row order; its Perm says where the rows lie.
// HF is empty for a tensor that only GGUF has (rope_freqs), GGUF is empty for one
// that only Hugging Face has.
type Entry struct {
	HF, GGUF string
	T        *tensor.Tensor
}

// Checkpoint is a model at rest: configuration and tensors, all lazily read,
// seen through Hugging Face's conventions.
type Checkpoint struct {
	Family Family
	// Source is the opened file; the checkpoint is valid until it is closed.
	Source *formats.Model
	// Config is the Hugging Face configuration: config.json itself, or what
	// corresponds to the GGUF metadata.
	Config json.RawMessage
	// Entries in file order.
	Entries []Entry

	byHF map[string]*tensor.Tensor
}

// Tensor returns the tensor of a Hugging Face name, nil when there is none.
func (c *Checkpoint) Tensor(hf string) *tensor.Tensor {
	if c.byHF == nil {
		c.byHF = make(map[string]*tensor.Tensor, len(c.Entries))
		for _, e := range c.Entries {
			if e.HF != "" {
				c.byHF[e.HF] = e.T
			}
		}
	}
	return c.byHF[hf]
}

// Close releases the files.
func (c *Checkpoint) Close() error { return c.Source.Close() }

// Parameters returns the number of stored weights.
func (c *Checkpoint) Parameters() int64 {
	var n int64
	for _, e := range c.Entries {
		n += e.T.Elements()
	}
	return n
}

// Family is a plug-in for one model family.
type Family interface {
	// Name is the family's short name, llama.cpp's and transformers' model_type where they agree.
	Name() string
	// Match reports whether the opened model is of this family.
	Match(m *formats.Model) bool
	// Open maps the tensors of an opened model and checks each against the
	// configuration: none may be missing, left over or of another shape.
	Open(m *formats.Model) (*Checkpoint, error)
	// Build makes the runnable network.
	Build(c *Checkpoint) (*Model, error)
	// GGUFMeta returns the metadata of a GGUF file with this checkpoint, without
	// the tokenizer's keys and general.file_type, in gguf-py's order, and
	// tensors that only GGUF has.
	GGUFMeta(c *Checkpoint) (formats.Meta, []Entry, error)
	// GGUFNames maps between module names: the Hugging Face path of a module
	// ("model.layers.0.self_attn.q_proj") and the GGUF tensor name without
	// ".weight" ("blk.0.attn_q"), with the row order of the latter.
	GGUFNames(config json.RawMessage) (*Names, error)
}

// Names maps the modules of one configuration between the two conventions.
type Names struct {
	// Arch is the value of general.architecture.
	Arch string
	// ToGGUF and ToHF map module names; the two are inverse.
	ToGGUF, ToHF map[string]string
	// StoredRow gives, for modules (by Hugging Face name) whose rows GGUF keeps
	// in another order, the stored row of each logical row.
	StoredRow map[string][]int32
}

var families []Family

// Register adds a family. It panics on a duplicate name.
func Register(f Family) {
	for _, g := range families {
		if g.Name() == f.Name() {
			panic("model: family registered twice: " + f.Name())
		}
	}
	families = append(families, f)
	sort.Slice(families, func(i, j int) bool { return families[i].Name() < families[j].Name() })
}

// Families lists the registered families by name.
func Families() []Family { return families }

// FamilyOf returns the family of an opened model, or an error that says what
// was found and what is supported.
func FamilyOf(m *formats.Model) (Family, error) {
	for _, f := range families {
		if f.Match(m) {
			return f, nil
		}
	}
	found := "no architecture"
	switch m.Naming {
	case formats.GGUF:
		if a := m.Meta.Str("general.architecture"); a != "" {
			found = fmt.Sprintf("general.architecture %q", a)
		}
	case formats.HF:
		var c struct {
			Architectures []string `json:"architectures"`
			ModelType     string   `json:"model_type"`
		}
		if err := json.Unmarshal(m.Config, &c); err != nil {
			return nil, fmt.Errorf("%s: config.json: %w", m.Path, err)
		}
		found = fmt.Sprintf("architectures %q, model_type %q", c.Architectures, c.ModelType)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.Name())
	}
	return nil, fmt.Errorf("%s: %s: %w; this peftkit computes the families: %s",
		m.Path, found, ErrUnsupported, strings.Join(names, ", "))
}

// Open detects the format and family of a path and opens it.
func Open(path string) (*Checkpoint, error) {
	m, err := formats.OpenModel(path)
	if err != nil {
		return nil, err
	}
	c, err := FromFile(m)
	if err != nil {
		m.Close()
	}
	return c, err
}

// FromFile finds the family of an opened model and maps its tensors.
func FromFile(m *formats.Model) (*Checkpoint, error) {
	f, err := FamilyOf(m)
	if err != nil {
		return nil, err
	}
	return f.Open(m)
}

// Load opens a path and builds the network. The model holds the files open
// until it is closed.
func Load(path string) (*Model, error) {
	c, err := Open(path)
	if err != nil {
		return nil, err
	}
	m, err := c.Family.Build(c)
	if err != nil {
		c.Close()
	}
	return m, err
}

// Module is one place of the network that methods can attach to. Exactly one of
// the layer pointers is set.
type Module struct {
	Path      string // Hugging Face path: model.layers.3.self_attn.q_proj
	Linear    *nn.LinearLayer
	Embedding *nn.EmbeddingLayer
	Norm      *nn.NormLayer
	// Output marks the output embedding (lm_head).
	Output bool
}

// Kind names the kind of place for people: linear, embedding or norm.
func (m *Module) Kind() string {
	switch {
	case m.Linear != nil:
		return "linear"
	case m.Embedding != nil:
		return "embedding"
	}
	return "norm"
}

// Weight returns the module's weight.
func (m *Module) Weight() *nn.Weight {
	switch {
	case m.Linear != nil:
		return m.Linear.W
	case m.Embedding != nil:
		return m.Embedding.W
	}
	return m.Norm.W
}

// SetWeight gives the module another weight of the same size. Modules that were
// tied to the old one keep it.
func (m *Module) SetWeight(w *nn.Weight) {
	switch {
	case m.Linear != nil:
		m.Linear.W = w
	case m.Embedding != nil:
		m.Embedding.W = w
	default:
		m.Norm.W = w
	}
}

// Untie gives a linear layer or embedding a weight of its own, so that training
// it leaves a module that shared the weight as it was.
func (m *Module) Untie() {
	w := m.Weight()
	if m.Norm != nil || w.Frozen == nil {
		return
	}
	m.SetWeight(&nn.Weight{Name: w.Name, Out: w.Out, In: w.In, Transposed: w.Transposed, Frozen: w.Frozen})
}

// Detach removes everything that methods attached to the module.
func (m *Module) Detach() {
	switch {
	case m.Linear != nil:
		m.Linear.Detach()
	case m.Embedding != nil:
		m.Embedding.Detach()
	default:
		m.Norm.Detach()
	}
}

// Model is a runnable causal language model.
type Model struct {
	*Checkpoint
	// Modules in the order of transformers' named_modules.
	Modules []*Module
	// VocabSize, HiddenSize, Layers and MaxPositions restate the configuration.
	VocabSize, HiddenSize, Layers, MaxPositions int
	// KVSize is the number of key (and of value) features per token and layer.
	KVSize int
	// TiedHead says that the output embedding is the input embedding.
	TiedHead bool
	// Head is the output embedding.
	Head *nn.LinearLayer
	// Hidden runs the network up to the final norm: [len(Tokens), HiddenSize].
	Hidden func(t *nn.Tape, b *Batch) *nn.Var
}

// Batch is one or more token sequences laid end to end without padding.
type Batch struct {
	Tokens []int32
	Pos    []int32   // position of each token in its own sequence
	Seqs   []nn.Span // rows of each sequence
	// Labels holds for each row the token to predict there (already shifted by
	// one), -100 where no loss is wanted. nil when no loss is wanted at all.
	Labels []int32
	// Cache, when set, holds the keys and values of the tokens before this
	// batch's one sequence and receives this batch's.
	Cache *Cache
}

// Sequence returns a batch of one sequence beginning at position pos.
func Sequence(tokens []int32, pos int) *Batch {
	b := &Batch{Tokens: tokens, Seqs: []nn.Span{{Start: 0, End: len(tokens)}}}
	for i := range tokens {
		b.Pos = append(b.Pos, int32(pos+i))
	}
	return b
}

// Module returns the module of a path, nil when there is none.
func (m *Model) Module(path string) *Module {
	for _, mod := range m.Modules {
		if mod.Path == path {
			return mod
		}
	}
	return nil
}

// Logits runs the network and returns the logits of the given rows (all rows
// when nil): [rows, VocabSize].
func (m *Model) Logits(t *nn.Tape, b *Batch, rows []int32) *nn.Var {
	h := m.Hidden(t, b)
	if rows != nil {
		h = nn.GatherRows(t, h, rows)
	}
	return m.Head.Forward(t, h)
}

// Loss runs the network and returns the summed cross-entropy over the labelled
// rows and their number; with a training tape, gradients of gradScale times the
// sum are ready for t.Backward.
func (m *Model) Loss(t *nn.Tape, b *Batch, gradScale float32) (sum float64, n int) {
	return nn.CrossEntropy(t, m.Hidden(t, b), m.Head, b.Labels, gradScale)
}

// Detach removes all methods from the model.
func (m *Model) Detach() {
	for _, mod := range m.Modules {
		mod.Detach()
	}
}

// LoadWeight returns the frozen weight of a Hugging Face tensor name, or nil
// without an error when the checkpoint has no such tensor. Vectors are decoded
// to float32; matrices stay in the file, in the type they are stored in.
func (c *Checkpoint) LoadWeight(hf string) (*nn.Weight, error) {
	t := c.Tensor(hf)
	if t == nil {
		return nil, nil
	}
	if len(t.Shape) < 2 {
		v, err := t.AllFloats()
		if err != nil {
			return nil, err
		}
		return nn.VectorWeight(hf, v), nil
	}
	w, err := t.Weight()
	if err != nil {
		return nil, err
	}
	return &nn.Weight{Name: hf, Out: w.Rows, In: w.Cols, Frozen: w}, nil
}
