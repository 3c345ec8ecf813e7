// Package onefile is a file format in a module of its own: an adapter in a single
// file. The first line is JSON with the adapter's configuration and the name,
// type, shape and place of each tensor; the bytes of the tensors follow it.
package onefile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

func init() { formats.Register(Format{}) }

// Format is the plug-in "onefile".
type Format struct{}

var (
	_ formats.AdapterReader = Format{}
	_ formats.AdapterWriter = Format{}
)

// magic begins every file, as the first key of the JSON line.
const magic = `{"onefile":1,`

// maxHeader bounds the JSON line.
const maxHeader = 64 << 20

type header struct {
	Version int             `json:"onefile"`
	Config  json.RawMessage `json:"config"`
	Tensors []entry         `json:"tensors"`
}

// entry describes a tensor; Offset counts from the end of the line.
type entry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Shape  []int  `json:"shape"`
	Offset int64  `json:"offset"`
}

// Name returns the word for --to.
func (Format) Name() string { return "onefile" }

// Doc describes the format in one line.
func (Format) Doc() string { return "an adapter in one file: a line of JSON, then the tensors" }

// AdapterNaming says that tensors have the names of transformers.
func (Format) AdapterNaming() formats.Naming { return formats.HF }

// Probe answers No: the format holds no models.
func (Format) Probe(string) formats.Confidence { return formats.No }

// ProbeAdapter recognises the first bytes.
func (Format) ProbeAdapter(path string) formats.Confidence {
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return formats.No
	}
	head, err := formats.Head(path, len(magic))
	if err != nil || string(head) != magic {
		return formats.No
	}
	return formats.Yes
}

// OpenAdapter reads the file into memory: adapters are small.
func (Format) OpenAdapter(path string) (*formats.Adapter, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &formats.FileError{File: path, Err: err}
	}
	bad := func(kind error, name, found, want string) error {
		return &formats.FileError{File: path, Tensor: name, Err: kind, Found: found, Want: want}
	}
	line, data, ok := bytes.Cut(b, []byte("\n"))
	if !ok || len(line) > maxHeader {
		return nil, bad(formats.ErrHeader, "", fmt.Sprintf("a first line of %d bytes", len(line)), "a line of JSON")
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, bad(formats.ErrHeader, "", err.Error(), "a line of JSON")
	}
	if h.Version != 1 || len(h.Config) == 0 {
		return nil, bad(formats.ErrHeader, "", fmt.Sprintf("version %d", h.Version), "version 1 and a configuration")
	}
	a := &formats.Adapter{Path: path, Format: Format{}.Name(), Naming: formats.HF, Config: h.Config, Sources: []string{path}}
	seen := map[string]bool{}
	for _, e := range h.Tensors {
		typ, err := tensor.ByName(e.Type)
		if err != nil {
			return nil, bad(formats.ErrType, e.Name, e.Type, "a type of peftkit")
		}
		size, ok := formats.CheckedSize(typ, e.Shape)
		if !ok {
			return nil, bad(formats.ErrShape, e.Name, fmt.Sprint(e.Shape), "whole blocks of "+typ.Name)
		}
		if e.Offset < 0 || e.Offset > int64(len(data)) || size > int64(len(data))-e.Offset {
			return nil, bad(formats.ErrTruncated, e.Name, fmt.Sprintf("%d bytes of data", len(data)), fmt.Sprintf("%d at %d", size, e.Offset))
		}
		if seen[e.Name] {
			return nil, bad(formats.ErrDuplicate, e.Name, "a second tensor of this name", "each name once")
		}
		seen[e.Name] = true
		a.Tensors = append(a.Tensors, &tensor.Tensor{
			Name: e.Name, Type: typ, Shape: e.Shape, Data: data[e.Offset : e.Offset+size : e.Offset+size],
			File: path, Offset: int64(len(line)) + 1 + e.Offset,
		})
	}
	return a, nil
}

// WriteAdapter writes aside, syncs and renames, so that path holds the old
// content or the new one, never half of it.
func (Format) WriteAdapter(ctx context.Context, path string, a *formats.OutAdapter) (err error) {
	if len(a.Config) == 0 {
		return &formats.FileError{File: path, Err: formats.ErrOutput, Found: "an adapter without a configuration"}
	}
	for _, s := range a.Sources {
		if x, err := os.Stat(s); err == nil {
			if y, err := os.Stat(path); err == nil && os.SameFile(x, y) {
				return &formats.FileError{File: path, Err: formats.ErrOutput, Found: "the source itself"}
			}
		}
	}
	h := header{Version: 1, Tensors: []entry{}}
	var compact bytes.Buffer
	if err := json.Compact(&compact, a.Config); err != nil {
		return &formats.FileError{File: path, Err: formats.ErrOutput, Found: "a configuration that is no JSON: " + err.Error()}
	}
	h.Config = compact.Bytes()
	var at int64
	for i := range a.Tensors {
		t := &a.Tensors[i]
		h.Tensors = append(h.Tensors, entry{t.Name, t.Type.Name, t.Shape, at})
		at += t.Size()
	}
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".onefile-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(ctx, f, path, line, a.Tensors); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func write(ctx context.Context, f *os.File, path string, line []byte, tensors []formats.OutTensor) error {
	w := bufio.NewWriter(f)
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	for i := range tensors {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := formats.WriteTensor(w, path, &tensors[i]); err != nil {
			return err
		}
	}
	return w.Flush()
}
