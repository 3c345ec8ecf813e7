// Package gguf reads and writes GGUF, the file format of llama.cpp
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): typed metadata,
// descriptions of tensors, and their data at aligned offsets.
//
// It can be used alone: [Open] gives the metadata and the tensors of a file,
// [Write] streams one. It reads versions 2 and 3, little-endian, single and
// split, and writes version 3. Shapes are row-major as everywhere in peftkit;
// the file stores them innermost first.
package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/mmap"
	"github.com/peftkit/peftkit/tensor"
)

// File is an opened file, or all files of a split model.
type File struct {
	Path      string
	Version   uint32
	Alignment int
	// HeaderSize is the length of the metadata and descriptions of the (first)
	// file, DataOffset where its tensor data begins.
	HeaderSize, DataOffset int64
	// Meta in file order, as stored. For a split model that of the first file.
	Meta formats.Meta
	// Tensors in file order; their data views the mapped files until Close.
	Tensors []*tensor.Tensor
	// Shards are the paths of the files, one for a model that is not split.
	Shards []string

	maps []io.Closer
}

// Open maps and checks the file at path. For a part of a split model
// (name-00001-of-00003.gguf) it opens all parts, whichever is given. Errors are
// [*formats.FileError].
func Open(path string) (*File, error) {
	f, err := openOne(path)
	if err != nil {
		return nil, err
	}
	n, _ := f.Meta.Int("split.count")
	if n <= 1 {
		return f, nil
	}
	f.Close()
	return openSplit(path, int(n))
}

func openOne(path string) (*File, error) {
	f, m, err := formats.Map(path, Parse)
	if err != nil {
		return nil, err
	}
	f.maps = []io.Closer{m}
	return f, nil
}

// Close unmaps the files. Tensor data must not be touched afterwards.
func (f *File) Close() error {
	var errs []error
	for _, m := range f.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Tensor returns the tensor of that name, or nil.
func (f *File) Tensor(name string) *tensor.Tensor {
	for _, t := range f.Tensors {
		if t.Name == name {
			return t
		}
	}
	return nil
}

var splitName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// maxShards is what the five digits of the names leave room for.
const maxShards = 99999

// openSplit opens the n parts of a split model and joins their tensors.
func openSplit(path string, n int) (*File, error) {
	m := splitName.FindStringSubmatch(filepath.Base(path))
	if m == nil || n > maxShards {
		return nil, &formats.FileError{File: path, Tensor: "split.count", Err: formats.ErrMismatch, Found: fmt.Sprintf("one of %d parts of a split model", n),
			Want: fmt.Sprintf("a name that ends in -00001-of-%05d.gguf", n), Hint: "Give the parts the names they were published under"}
	}
	if k, _ := strconv.Atoi(m[3]); k != n {
		return nil, &formats.FileError{File: path, Tensor: "split.count", Err: formats.ErrMismatch, Found: fmt.Sprint(n), Want: fmt.Sprintf("%d, as in the name", k)}
	}
	var all *File
	names := map[string]string{}
	for i := range n {
		part := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%05d.gguf", m[1], i+1, n))
		f, err := openOne(part)
		if err == nil {
			err = f.checkPart(part, i, n, names)
		}
		if err != nil {
			if all != nil {
				all.Close()
			}
			if f != nil {
				f.Close()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil, &formats.FileError{File: part, Err: formats.ErrMissing, Found: fmt.Sprintf("part %d of %d is not there", i+1, n),
					Hint: "Put all parts into one folder"}
			}
			return nil, err
		}
		if all == nil {
			all = f
			all.Path = path
			continue
		}
		all.Tensors = append(all.Tensors, f.Tensors...)
		all.Shards = append(all.Shards, part)
		all.maps = append(all.maps, f.maps...)
	}
	if want, ok := all.Meta.Int("split.tensors.count"); ok && want != int64(len(all.Tensors)) {
		all.Close()
		return nil, &formats.FileError{File: path, Tensor: "split.tensors.count", Err: formats.ErrMismatch,
			Found: fmt.Sprintf("%d tensors in all parts", len(all.Tensors)), Want: fmt.Sprint(want)}
	}
	return all, nil
}

// checkPart verifies that f is part i of n and repeats no tensor.
func (f *File) checkPart(path string, i, n int, names map[string]string) error {
	fail := func(key string, kind error, found, want string) error {
		return &formats.FileError{File: path, Tensor: key, Err: kind, Found: found, Want: want}
	}
	if k, ok := f.Meta.Int("split.no"); !ok || k != int64(i) {
		return fail("split.no", formats.ErrMismatch, fmt.Sprint(f.Meta.Get("split.no")), fmt.Sprint(i))
	}
	if k, ok := f.Meta.Int("split.count"); !ok || k != int64(n) {
		return fail("split.count", formats.ErrMismatch, fmt.Sprint(f.Meta.Get("split.count")), fmt.Sprint(n))
	}
	for _, t := range f.Tensors {
		if other := names[t.Name]; other != "" {
			return fail(t.Name, formats.ErrDuplicate, "also in "+filepath.Base(other), "each tensor in one part")
		}
		names[t.Name] = path
	}
	return nil
}

// generalType reads general.type of the file at path without reading the rest;
// it is "model" when the key is absent. ok is false when the file is no GGUF.
func generalType(path string) (kind string, ok bool) {
	head, err := formats.Head(path, 4)
	if err != nil || string(head) != "GGUF" {
		return "", false
	}
	st, err := os.Stat(path)
	if err != nil || st.IsDir() {
		return "", false
	}
	m, err := mmap.Open(path)
	if err != nil {
		return "", false
	}
	defer m.Close()
	c := &cursor{file: path, b: m.Data}
	_, n, _, err := start(c)
	if err != nil {
		return "model", true // Open says what is wrong
	}
	for range n {
		key := c.bytes("a metadata key")
		t := c.u32("the type of a value")
		if c.err != nil || bytes.HasPrefix(key, []byte("tokenizer.")) {
			break // writers put general.* first
		}
		if string(key) == "general.type" && t == typeString {
			if s := c.bytes("a string"); c.err == nil {
				return string(s), true
			}
			break
		}
		if c.skip(t); c.err != nil {
			break
		}
	}
	return "model", true
}
