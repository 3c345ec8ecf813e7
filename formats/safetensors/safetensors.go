// Package safetensors reads and writes single .safetensors files
// (https://github.com/huggingface/safetensors): a length of 8 bytes, a JSON
// header, and the data of the tensors without gaps.
//
// The reader maps the file and trusts nothing: the header is checked against
// the size of the file before any memory is reserved for it. The writer streams
// and lays the file out byte for byte as the Rust crate does.
package safetensors

import (
	"io"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// File is an opened file. Its tensors view the mapped bytes until Close.
type File struct {
	Path string
	// Metadata is the __metadata__ object of the header, nil without one.
	Metadata map[string]string
	// HeaderSize is the length of the JSON header; the data begins 8 bytes later.
	HeaderSize int64
	// Tensors in the order of their data.
	Tensors []*tensor.Tensor

	m io.Closer // nil when the bytes came from elsewhere
}

// Open maps and checks the file at path. Errors are [*formats.FileError].
func Open(path string) (*File, error) {
	f, m, err := formats.Map(path, Parse)
	if err != nil {
		return nil, err
	}
	f.m = m
	return f, nil
}

// Close unmaps the file. The data of its tensors must not be touched afterwards.
func (f *File) Close() error {
	if f.m == nil {
		return nil
	}
	return f.m.Close()
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
