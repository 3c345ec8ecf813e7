//go:build !linux && !darwin

package mmap

import (
	"io"
	"os"
)

func open(f *os.File, n int) (*File, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, &os.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return &File{Data: b}, nil
}

func unmap([]byte) error { return nil }

// Drop does nothing where files are not mapped.
func Drop([]byte) {}
