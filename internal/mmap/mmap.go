// Package mmap maps files read-only, so that a model of any size is opened at
// once and only the pages that are used are ever in memory. Where the operating
// system offers no mapping the file is read.
//
// A mapped file must not shrink while it is open: the operating system would
// kill the process at the next access. peftkit's own writers never do that, as
// they replace files by renaming.
package mmap

import (
	"fmt"
	"math"
	"os"
)

// File is an open mapping.
type File struct {
	// Data is the whole file. It must not be written, nor read after Close.
	Data   []byte
	mapped bool
}

// Open maps the file at path. An empty file gives empty Data.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	n := st.Size()
	if n == 0 {
		return &File{}, nil
	}
	if n > math.MaxInt {
		return nil, fmt.Errorf("%s: %d bytes do not fit into the address space", path, n)
	}
	return open(f, int(n))
}

// Close unmaps the file. A second call does nothing.
func (f *File) Close() error {
	d := f.Data
	f.Data = nil
	if !f.mapped || d == nil {
		return nil
	}
	f.mapped = false
	return unmap(d)
}
