package peft

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// MethodOf returns the method that wrote an adapter of Hugging Face naming.
func MethodOf(a *formats.Adapter) (Method, error) {
	var head struct {
		PeftType string `json:"peft_type"`
	}
	if err := json.Unmarshal(a.Config, &head); err != nil {
		return nil, fmt.Errorf("%s: adapter_config.json: %w", a.Path, err)
	}
	if head.PeftType == "" {
		for _, m := range Methods() {
			if r, ok := m.(Recogniser); ok && r.Recognises(a.Config) {
				return m, nil
			}
		}
	}
	m, err := ByPeftType(head.PeftType)
	if err != nil {
		return nil, formats.At(a.Path, err)
	}
	return m, nil
}

// Open opens an adapter of any registered format and returns it in Hugging Face
// form, its modules named as in c, the base model it belongs to.
func Open(path string, c *model.Checkpoint) (*formats.Adapter, error) {
	a, err := Read(path)
	if err != nil {
		return nil, err
	}
	if err := Check(a); err != nil {
		a.Close()
		return nil, err
	}
	if a.Naming == formats.HF {
		paths := make([]string, len(c.Entries))
		for i, e := range c.Entries {
			paths[i] = e.HF
		}
		if err := withBasePrefix(a, paths); err != nil {
			a.Close()
			return nil, err
		}
		return a, nil
	}
	names, err := c.Family.GGUFNames(c.Config)
	if err == nil {
		var out *formats.Adapter
		if out, _, err = FromGGUF(a, names); err == nil {
			out.OnClose(a)
			return out, nil
		}
	}
	a.Close()
	return nil, err
}

// FromGGUF turns a GGUF adapter into Hugging Face form, by the method whose kind
// of adapter it says it is.
func FromGGUF(a *formats.Adapter, names *model.Names) (*formats.Adapter, []string, error) {
	m, err := methodOf(a)
	if err != nil {
		return nil, nil, err
	}
	conv, ok := m.(GGUFConverter)
	if !ok {
		return nil, nil, fmt.Errorf("%s: method %s has no GGUF form: %w", a.Path, m.Info().Name, ErrConfig)
	}
	if arch := a.Meta.Str("general.architecture"); arch != names.Arch {
		return nil, nil, fmt.Errorf("%s: the adapter is for architecture %q, the base model is %q: %w", a.Path, arch, names.Arch, ErrNoMatch)
	}
	return conv.FromGGUF(a, names)
}

// ToGGUF turns an adapter of Hugging Face form into a GGUF one.
func ToGGUF(a *formats.Adapter, names *model.Names) (*formats.OutAdapter, []string, error) {
	m, err := MethodOf(a)
	if err != nil {
		return nil, nil, err
	}
	conv, ok := m.(GGUFConverter)
	if !ok {
		return nil, nil, fmt.Errorf("%s: method %s has no GGUF form; merge it into the model with peftkit merge-lora and convert that: %w", a.Path, m.Info().Name, ErrConfig)
	}
	if err := withBasePrefix(a, slices.Collect(maps.Keys(names.ToGGUF))); err != nil {
		return nil, nil, err
	}
	return conv.ToGGUF(a, names)
}

// Attach opens an adapter, or all parts of a combination, and attaches it to the
// model, its effect multiplied by scale.
func Attach(m *model.Model, path string, scale float32) (Adapter, error) {
	parts, err := Parts(path)
	if err != nil {
		return nil, err
	}
	c := &Combination{}
	for _, p := range parts {
		ad, info, err := attach(m, p, scale)
		if err != nil {
			return nil, err
		}
		c.Parts, c.Infos = append(c.Parts, ad), append(c.Infos, info)
	}
	if len(parts) == 1 {
		return c.Parts[0], nil
	}
	return c, nil
}

func attach(m *model.Model, path string, scale float32) (Adapter, Info, error) {
	a, err := Open(path, m.Checkpoint)
	if err != nil {
		return nil, Info{}, err
	}
	defer a.Close()
	method, err := MethodOf(a)
	if err != nil {
		return nil, Info{}, err
	}
	ad, err := method.Load(m, a, scale)
	return ad, method.Info(), err
}

// Changes opens an adapter's effect on a base model's weights. The adapter must
// stay open until the changes were applied.
func Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*ChangeSet, error) {
	m, err := MethodOf(a)
	if err != nil {
		return nil, err
	}
	merger, ok := m.(Merger)
	if why := m.Info().NotMergeable; why != "" || !ok {
		return nil, fmt.Errorf("%s: method %s %w into weights: %s", a.Path, m.Info().Name, ErrNotMergeable, why)
	}
	return merger.Changes(a, c, scale)
}

// Save writes a trained adapter as a Hugging Face PEFT folder. Files are extra
// files to put beside it (README.md).
func Save(ctx context.Context, path string, a Adapter, files map[string][]byte) error {
	if s, ok := a.(Saver); ok {
		return s.SaveTo(ctx, path, files)
	}
	cfg, err := a.Config()
	if err != nil {
		return err
	}
	f, err := formats.ByName("peft")
	if err != nil {
		return err
	}
	w, ok := f.(formats.AdapterWriter)
	if !ok {
		return fmt.Errorf("format %s cannot write adapters", f.Name())
	}
	out := &formats.OutAdapter{Config: cfg, Files: files}
	if out.Tensors, err = Tensors(a); err != nil {
		return err
	}
	return w.WriteAdapter(ctx, path, out)
}

// Tensors lists what is saved of an adapter.
func Tensors(a Adapter) ([]formats.OutTensor, error) {
	if e, ok := a.(Exporter); ok {
		return e.Export()
	}
	var out []formats.OutTensor
	for _, p := range a.Params() {
		out = append(out, OutParam(p))
	}
	return out, nil
}

// OutParam is a float32 parameter as a tensor to be written.
func OutParam(p *nn.Param) formats.OutTensor {
	return formats.OutTensor{Name: p.Name, Type: tensor.F32, Shape: p.Shape, WriteTo: func(w io.Writer) error {
		return WriteFloats(w, tensor.F32, p.V.Data)
	}}
}

// floatPiece is how many values WriteFloats encodes at once: a multiple of every
// block size.
const floatPiece = 1 << 14

var floatBuffers = sync.Pool{New: func() any { b := make([]byte, 8*floatPiece); return &b }}

// WriteFloats encodes v as typ and writes it in pieces.
func WriteFloats(w io.Writer, typ *tensor.DType, v []float32) error {
	pooled := floatBuffers.Get().(*[]byte)
	defer floatBuffers.Put(pooled)
	const piece = floatPiece
	buf := *pooled
	for len(v) > 0 {
		n := min(piece, len(v))
		size, ok := typ.Size(int64(n))
		if !ok {
			return fmt.Errorf("%d values are no whole blocks of %s", n, typ)
		}
		typ.Encode(buf[:size], v[:n])
		if _, err := w.Write(buf[:size]); err != nil {
			return err
		}
		v = v[n:]
	}
	return nil
}
