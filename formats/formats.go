// Package formats defines what a model or adapter file is to the rest of
// peftkit, and the registry through which formats plug in. Each format lives in
// a folder of its own below this one, can be used alone, and registers itself in
// an init function.
//
// Nothing here knows what a layer or a PEFT method is: a model file is its
// configuration, its lazily read tensors and its side files; an adapter file is
// its raw configuration and its tensors.
package formats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/peftkit/peftkit/internal/spell"
	"github.com/peftkit/peftkit/tensor"
)

// Naming says by whose convention the tensors of a model are named and laid out.
type Naming string

// The two conventions that model families can map between.
const (
	HF   Naming = "hf"   // Hugging Face transformers
	GGUF Naming = "gguf" // llama.cpp
)

// KV is one metadata entry of a GGUF file. Value is one of uint8, int8, uint16,
// int16, uint32, int32, uint64, int64, float32, float64, bool, string, or a
// slice of one of these.
type KV struct {
	Key   string
	Value any
}

// Meta is GGUF metadata in file order.
type Meta []KV

// Get returns the value of key, or nil.
func (m Meta) Get(key string) any {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value
		}
	}
	return nil
}

// Set replaces the value of key in place, or appends it.
func (m *Meta) Set(key string, v any) {
	for i := range *m {
		if (*m)[i].Key == key {
			(*m)[i].Value = v
			return
		}
	}
	*m = append(*m, KV{key, v})
}

// Delete removes key if it is there.
func (m *Meta) Delete(key string) {
	for i := range *m {
		if (*m)[i].Key == key {
			*m = append((*m)[:i], (*m)[i+1:]...)
			return
		}
	}
}

// Str returns a string value, "" when absent or of another type.
func (m Meta) Str(key string) string { s, _ := m.Get(key).(string); return s }

// Int returns an integer value of any width; ok is false when absent or of another kind.
func (m Meta) Int(key string) (v int64, ok bool) {
	switch x := m.Get(key).(type) {
	case uint8:
		return int64(x), true
	case int8:
		return int64(x), true
	case uint16:
		return int64(x), true
	case int16:
		return int64(x), true
	case uint32:
		return int64(x), true
	case int32:
		return int64(x), true
	case uint64:
		return int64(x), x < 1<<63
	case int64:
		return x, true
	}
	return 0, false
}

// Float returns a float value; ok is false when absent or of another kind.
func (m Meta) Float(key string) (v float64, ok bool) {
	switch x := m.Get(key).(type) {
	case float32:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

// Model is an opened model file or folder. Its tensors view mapped files and
// are valid until Close.
type Model struct {
	Path   string // as the user gave it
	Format string // name of the format that opened it
	Naming Naming
	// Config is config.json of a Hugging Face folder, nil otherwise.
	Config json.RawMessage
	// Meta is the metadata of a GGUF file, nil otherwise.
	Meta Meta
	// Files holds the small side files of a Hugging Face folder by name:
	// tokenizer.json, tokenizer_config.json, special_tokens_map.json,
	// chat_template.jinja, generation_config.json, tokenizer.model.
	Files map[string][]byte
	// Tensors in file order.
	Tensors []*tensor.Tensor
	// Sources lists the files that were opened, so that an output never overwrites one.
	Sources []string

	resources
}

// resources is what an opened model or adapter holds until it is closed.
type resources struct{ closers []io.Closer }

// OnClose adds something to release with Close.
func (r *resources) OnClose(c io.Closer) { r.closers = append(r.closers, c) }

// Close releases the mapped files. Tensor data must not be touched afterwards.
func (r *resources) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// Adapter is an opened adapter file or folder, neutral of the method it holds.
type Adapter struct {
	Path   string
	Format string
	Naming Naming
	// Config is adapter_config.json of a Hugging Face PEFT folder, nil otherwise.
	Config json.RawMessage
	// Meta is the metadata of a GGUF adapter, nil otherwise.
	Meta Meta
	// Files holds README.md and the tokenizer files of a PEFT folder by name.
	Files   map[string][]byte
	Tensors []*tensor.Tensor
	// Sources lists the files that were opened, so that an output never overwrites one.
	Sources []string

	resources
}

// OutTensor is a tensor to be written. WriteTo is called once, one tensor after
// the other in the order in which the format stores them (GGUF: the order of the
// list; safetensors: by type, then by name), and writes exactly the bytes that
// Type and Shape imply, so that a writer holds no more than a buffer of it.
type OutTensor struct {
	Name    string
	Type    *tensor.DType
	Shape   []int // row-major, outermost first; GGUF writers reverse it
	WriteTo func(w io.Writer) error
}

// Size returns the bytes the tensor takes.
func (t *OutTensor) Size() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	s, _ := t.Type.Size(n)
	return s
}

// OutModel is a model to be written, in the naming of the target format.
type OutModel struct {
	Config  json.RawMessage   // Hugging Face formats
	Files   map[string][]byte // Hugging Face formats: written as they are
	Meta    Meta              // GGUF
	Tensors []OutTensor
	// Sources lists files that the writer must refuse to overwrite.
	Sources []string
}

// OutAdapter is an adapter to be written, in the naming of the target format.
type OutAdapter struct {
	Config  json.RawMessage // Hugging Face PEFT
	Files   map[string][]byte
	Meta    Meta // GGUF
	Tensors []OutTensor
	// Sources lists files that the writer must refuse to overwrite.
	Sources []string
}

// Confidence is how sure a format is that a path is its own.
type Confidence int

// Probe results. Two formats that are equally sure are an error, not a guess.
const (
	No    Confidence = iota
	Maybe            // the name fits
	Yes              // the content fits
)

// Format is a plug-in. What it can do beyond probing is told by the optional
// interfaces ModelReader, ModelWriter, AdapterReader and AdapterWriter.
type Format interface {
	// Name is the word used with --to and printed by peftkit plugins.
	Name() string
	// Doc is one line for people.
	Doc() string
	// Probe looks at a path without reading more than a header.
	Probe(path string) Confidence
}

// ModelReader opens models.
type ModelReader interface {
	Format
	OpenModel(path string) (*Model, error)
}

// ModelWriter writes models. The output appears under path only when it is
// complete and synced.
type ModelWriter interface {
	Format
	Naming() Naming
	WriteModel(ctx context.Context, path string, m *OutModel) error
}

// AdapterReader opens adapters.
type AdapterReader interface {
	Format
	// ProbeAdapter is Probe for adapters.
	ProbeAdapter(path string) Confidence
	OpenAdapter(path string) (*Adapter, error)
}

// AdapterWriter writes adapters, as completely or not at all as WriteModel.
type AdapterWriter interface {
	Format
	AdapterNaming() Naming
	WriteAdapter(ctx context.Context, path string, a *OutAdapter) error
}

var registered = map[string]Format{}

// Register adds a format. It panics on an empty or duplicate name.
func Register(f Format) {
	if f.Name() == "" {
		panic("formats: Register of a format without a name")
	}
	if registered[f.Name()] != nil {
		panic("formats: registered twice: " + f.Name())
	}
	registered[f.Name()] = f
}

// All lists the registered formats, sorted by name.
func All() []Format {
	out := make([]Format, 0, len(registered))
	for _, f := range registered {
		out = append(out, f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out
}

// ByName returns a registered format.
func ByName(name string) (Format, error) {
	if f := registered[name]; f != nil {
		return f, nil
	}
	var names []string
	for _, f := range All() {
		names = append(names, f.Name())
	}
	return nil, &spell.UnknownError{Kind: "format", Word: name, Known: names}
}

// detect returns the one surest format among those that implement T.
func detect[T Format](path, what string, probe func(T) Confidence) (T, error) {
	var best []T
	var level Confidence
	for _, f := range All() {
		r, ok := f.(T)
		if !ok {
			continue
		}
		switch c := probe(r); {
		case c == No || c < level:
		case c > level:
			level, best = c, []T{r}
		default:
			best = append(best, r)
		}
	}
	var zero T
	switch len(best) {
	case 1:
		return best[0], nil
	case 0:
		return zero, Diagnose(path, what)
	}
	return zero, fmt.Errorf("%s: both %s and %s claim this %s: %w", path, best[0].Name(), best[1].Name(), what, ErrUnknownFormat)
}

// OpenModel detects the format of path and opens it.
func OpenModel(path string) (*Model, error) {
	r, err := detect(path, "model", func(r ModelReader) Confidence { return r.Probe(path) })
	if err != nil {
		return nil, err
	}
	return r.OpenModel(path)
}

// OpenAdapter detects the format of path and opens it as an adapter.
func OpenAdapter(path string) (*Adapter, error) {
	r, err := detect(path, "adapter", func(r AdapterReader) Confidence { return r.ProbeAdapter(path) })
	if err != nil {
		return nil, err
	}
	return r.OpenAdapter(path)
}

// IsAdapter reports whether path is an adapter of a known format.
func IsAdapter(path string) bool {
	_, err := detect(path, "adapter", func(r AdapterReader) Confidence { return r.ProbeAdapter(path) })
	return err == nil
}
