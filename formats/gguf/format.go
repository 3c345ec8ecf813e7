package gguf

import (
	"context"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// Format is the plug-in "gguf": models and LoRA adapters.
type Format struct{}

var (
	_ formats.ModelReader   = Format{}
	_ formats.ModelWriter   = Format{}
	_ formats.AdapterReader = Format{}
	_ formats.AdapterWriter = Format{}
)

func init() { formats.Register(Format{}) }

// Name returns "gguf".
func (Format) Name() string { return "gguf" }

// Doc describes the format in one line.
func (Format) Doc() string {
	return "GGUF file of llama.cpp and Ollama: model or LoRA adapter, single or split"
}

// Naming says that tensors have llama.cpp's names.
func (Format) Naming() formats.Naming { return formats.GGUF }

// AdapterNaming says that tensors have llama.cpp's names.
func (Format) AdapterNaming() formats.Naming { return formats.GGUF }

// Probe recognises files that begin with the magic and are no adapters.
func (Format) Probe(path string) formats.Confidence {
	kind, ok := generalType(path)
	switch {
	case !ok && strings.HasSuffix(strings.ToLower(path), ".gguf") && formats.IsFile(path):
		return formats.Maybe
	case !ok || kind == "adapter":
		return formats.No
	}
	return formats.Yes
}

// ProbeAdapter recognises files whose general.type is "adapter".
func (Format) ProbeAdapter(path string) formats.Confidence {
	if kind, ok := generalType(path); ok && kind == "adapter" {
		return formats.Yes
	}
	return formats.No
}

// OpenModel opens a file or all files of a split model. The keys that describe
// the split are left out of its metadata.
func (Format) OpenModel(path string) (*formats.Model, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	m := &formats.Model{Path: path, Format: "gguf", Naming: formats.GGUF, Tensors: f.Tensors, Sources: f.Shards}
	for _, kv := range f.Meta {
		if !strings.HasPrefix(kv.Key, "split.") {
			m.Meta = append(m.Meta, kv)
		}
	}
	m.OnClose(f)
	return m, nil
}

// WriteModel writes one file at path.
func (Format) WriteModel(ctx context.Context, path string, m *formats.OutModel) error {
	return WriteFile(ctx, path, m.Sources, m.Meta, m.Tensors)
}

// OpenAdapter opens a LoRA adapter.
func (Format) OpenAdapter(path string) (*formats.Adapter, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	if kind := f.Meta.Str("adapter.type"); kind != "lora" {
		f.Close()
		return nil, &formats.FileError{File: path, Tensor: "adapter.type", Err: formats.ErrUnsupported, Found: fmt.Sprintf("%q", kind), Want: `"lora"`}
	}
	a := &formats.Adapter{Path: path, Format: "gguf", Naming: formats.GGUF, Meta: f.Meta, Tensors: f.Tensors, Sources: f.Shards}
	a.OnClose(f)
	return a, nil
}

// WriteAdapter writes one file at path. The metadata must say that it is one.
func (Format) WriteAdapter(ctx context.Context, path string, a *formats.OutAdapter) error {
	if a.Meta.Str("general.type") != "adapter" || a.Meta.Str("adapter.type") == "" {
		return &formats.FileError{File: path, Tensor: "general.type", Err: formats.ErrOutput, Found: fmt.Sprintf("%q", a.Meta.Str("general.type")),
			Want: `"adapter", and adapter.type "lora"`}
	}
	return WriteFile(ctx, path, a.Sources, a.Meta, a.Tensors)
}
