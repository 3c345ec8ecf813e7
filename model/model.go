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
	// Stored is the name in the file when it is neither: an older spelling, or the
	// name within a bare base model.
	Stored string
	// InGGUF, when not nil, is what GGUF has in place of T: RoBERTa's positions
	// without the rows that are never used.
	InGGUF *tensor.Tensor
	// Unused says that no task of the family computes with the tensor; GGUF files
	// go without it.
	Unused bool
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
	// Notes say what of the file is not used, for people.
	Notes []string

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

// Shape returns the row-major shape of the tensor of a Hugging Face name, nil
// when there is none.
func (c *Checkpoint) Shape(hf string) []int {
	if t := c.Tensor(hf); t != nil {
		return t.Shape
	}
	return nil
}

// Type returns model_type of the configuration, such as "llama".
func (c *Checkpoint) Type() string {
	var h struct {
		ModelType string `json:"model_type"`
	}
	if json.Unmarshal(c.Config, &h) != nil || h.ModelType == "" {
		return c.Family.Name()
	}
	return h.ModelType
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
	// Build makes the runnable network with a head for o.Task; the task is empty
	// when neither the caller nor the checkpoint says what the model is for.
	Build(c *Checkpoint, o Options) (*Model, error)
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
	// Transposed holds the modules (by Hugging Face name) whose weight is [in, out]
	// to Hugging Face and [out, in] in GGUF: Conv1D.
	Transposed map[string]bool
	// Shift gives what GGUF adds to the weight of a module.
	Shift map[string]float32
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
func Load(path string, o Options) (*Model, error) {
	c, err := Open(path)
	if err != nil {
		return nil, err
	}
	m, err := Build(c, o)
	if err != nil {
		c.Close()
	}
	return m, err
}

// Build makes the network of a checkpoint.
func Build(c *Checkpoint, o Options) (*Model, error) {
	o, err := o.resolve(c)
	if err != nil {
		return nil, err
	}
	m, err := c.Family.Build(c, o)
	if err != nil {
		return nil, formats.At(c.Source.Path, err)
	}
	m.Options = o
	return m, nil
}

// Model is a runnable network with a head.
type Model struct {
	*Checkpoint
	// Options say what the head is for.
	Options Options
	// Modules that have weights, in the order of transformers' named_modules.
	Modules []*Module
	// Inputs, Attentions, Sublayers and Blocks are the places without weights of their
	// own that methods attach to, in the order in which a forward pass meets them.
	// Only decoder-only models have Blocks.
	Inputs     []*Input
	Attentions []*Attention
	Sublayers  []*Sublayer
	Blocks     []*Block
	// VocabSize, HiddenSize, Layers and MaxPositions restate the configuration;
	// Layers are those of the stack that has the head.
	VocabSize, HiddenSize, Layers, MaxPositions int
	// Dropout is what Run leaves out on tapes with BaseDropout.
	Dropout Dropout
	// KVSize is the number of key (and of value) features per token and layer.
	KVSize int
	// TiedHead says that the output embedding is the input embedding.
	TiedHead bool
	// Head turns what the network computes into logits: the output embedding of a
	// language model ([vocabulary]), the last layer of a classifier ([labels]). It is
	// nil for feature extraction, which has no loss.
	Head *nn.LinearLayer
	// HeadModules are the paths, as modules_to_save names them, of the head of a
	// task: trained in full and saved with every adapter. Empty for a language model.
	HeadModules []string
	// Fresh lists the tensors that the checkpoint does not have and that were
	// drawn at random: an untrained head.
	Fresh []string
	// Start is the token that a decoder begins with (decoder_start_token_id), for
	// encoder-decoder models.
	Start int32
	// Tasks is the number of tasks that an attached method tells apart
	// (Batch.Tasks), 0 when none does. Detach forgets it.
	Tasks int
	// WholeText says that what an attached method does at a token depends on the tokens
	// after it (a mean over the text): batches hold all tokens then. Detach forgets it.
	WholeText bool
	// ExtraLabels is the number of labels that attached methods add to each sequence of
	// a language model's loss ([Rows.Label]). Detach forgets it.
	ExtraLabels int
	// Writing says how the decoder of an encoder-decoder model writes; nil for others.
	Writing *Writing
	// Run computes what the head reads.
	Run func(t *nn.Tape, b *Batch) *States

	reserved int
	terms    []func(t *nn.Tape, b *Batch, gradScale float32) float64
	arounds  int
	plain    func(t *nn.Tape, b *Batch) *States // Run, while a method is around it
}

// Around attaches a function around the whole network: it gets the batch and next,
// which runs the network with what was attached around it before.
func (m *Model) Around(f func(t *nn.Tape, b *Batch, next func(*nn.Tape, *Batch) *States) *States) {
	next := m.Run
	if m.plain == nil {
		m.plain = next
	}
	m.Run = func(t *nn.Tape, b *Batch) *States { return f(t, b, next) }
	m.arounds++
}

// Arounds is the number of functions around the network.
func (m *Model) Arounds() int { return m.arounds }

// Reserved is what Reserve has taken away.
func (m *Model) Reserved() int { return m.reserved }

// Reserve takes n of MaxPositions away for rows or keys that a method puts before
// every sequence. Detach gives them back.
func (m *Model) Reserve(n int) {
	m.MaxPositions -= n
	m.reserved += n
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

// Hidden runs the network and returns what the head reads: [len(b.Tokens),
// HiddenSize] for a token task, [len(b.Seqs), HiddenSize] for a sequence task.
func (m *Model) Hidden(t *nn.Tape, b *Batch) *nn.Var {
	s := m.Run(t, b)
	if s.Own == nil {
		return s.X
	}
	return nn.GatherRows(t, s.X, s.Own)
}

// Logits runs the network and returns the logits of the given rows (all rows
// when nil): [rows, VocabSize or labels]. Without a head it returns the features
// that one would read, [rows, HiddenSize].
func (m *Model) Logits(t *nn.Tape, b *Batch, rows []int32) *nn.Var {
	h := m.Hidden(t, b)
	if rows != nil {
		h = nn.GatherRows(t, h, rows)
	}
	if m.Head == nil {
		return h
	}
	return m.Head.Forward(t, h)
}

// Loss runs the network and returns the summed loss over what is labelled and
// the number of it; with a training tape, gradients of gradScale times the sum
// are ready for t.Backward. It is the cross-entropy in nats per token or
// sequence, or for Options.Problem the binary cross-entropy or the squared error
// per label. Labels that a method adds ([Rows.Label]) count too, each with its weight in
// the sum. Without a head nothing is labelled.
func (m *Model) Loss(t *nn.Tape, b *Batch, gradScale float32) (sum float64, n int) {
	if m.Head == nil {
		return 0, 0
	}
	sum, n = m.LossOf(t, m.Run(t, b), m.Head, b, gradScale)
	for _, f := range m.terms {
		sum += f(t, b, gradScale)
	}
	return sum, n
}

// LossOf is Loss of states that were computed, with a head of the model's task and
// without what methods add.
func (m *Model) LossOf(t *nn.Tape, s *States, head *nn.LinearLayer, b *Batch, gradScale float32) (sum float64, n int) {
	if m.Options.Task == SequenceClassification {
		switch m.Options.Problem {
		case MultiLabel:
			return nn.BCEWithLogits(t, head.Forward(t, s.X), b.Targets, gradScale)
		case Regression:
			return nn.MSE(t, head.Forward(t, s.X), b.Targets, gradScale)
		}
	}
	return s.loss(t, b, head, gradScale)
}

// AddLoss attaches a function that is called after each Run of Loss and returns what
// is added to its sum. With a training tape it also has to seed the gradient of
// gradScale times that.
func (m *Model) AddLoss(f func(t *nn.Tape, b *Batch, gradScale float32) float64) {
	m.terms = append(m.terms, f)
}

// Detach removes all methods from the model.
func (m *Model) Detach() {
	m.MaxPositions += m.reserved
	m.reserved, m.Tasks, m.WholeText, m.ExtraLabels = 0, 0, false, 0
	m.terms, m.arounds = nil, 0
	if m.plain != nil {
		m.Run, m.plain = m.plain, nil
	}
	for _, mod := range m.Modules {
		mod.Detach()
	}
	for _, in := range m.Inputs {
		in.Detach()
	}
	for _, a := range m.Attentions {
		a.Detach()
	}
	for _, s := range m.Sublayers {
		s.Detach()
	}
	for _, b := range m.Blocks {
		b.Detach()
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
