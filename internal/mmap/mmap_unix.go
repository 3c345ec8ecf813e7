//go:build linux || darwin

package mmap

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func open(f *os.File, n int) (*File, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return &File{Data: b, mapped: true}, nil
}

func unmap(b []byte) error { return unix.Munmap(b) }

// Drop tells the operating system that the whole pages inside b, a part of a
// mapped file, are not needed for now: they leave the resident memory and come
// back from the file when touched again. It is advice and may do nothing.
func Drop(b []byte) {
	page := uintptr(os.Getpagesize())
	if uintptr(len(b)) < page {
		return
	}
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	skip := (page - p%page) % page
	if skip >= uintptr(len(b)) {
		return
	}
	n := (uintptr(len(b)) - skip) / page * page
	if n > 0 {
		_ = unix.Madvise(b[skip:skip+n], unix.MADV_DONTNEED)
	}
}
