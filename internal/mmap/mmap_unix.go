//go:build linux || darwin

package mmap

import (
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped remembers the open mappings, so that Drop never touches other memory:
// dropped pages of the heap would come back as zeros.
var mapped struct {
	sync.RWMutex
	size map[uintptr]uintptr // length by first address
}

func open(f *os.File, n int) (*File, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	mapped.Lock()
	defer mapped.Unlock()
	if mapped.size == nil {
		mapped.size = map[uintptr]uintptr{}
	}
	mapped.size[address(b)] = uintptr(n)
	return &File{Data: b, mapped: true}, nil
}

func unmap(b []byte) error {
	mapped.Lock()
	defer mapped.Unlock()
	delete(mapped.size, address(b))
	return unix.Munmap(b)
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// Drop tells the operating system that the whole pages inside b, a part of a
// mapped file, are not needed at the moment: they leave the resident memory and come
// back from the file when touched again. For bytes that lie in no open mapping
// it does nothing.
func Drop(b []byte) {
	page := uintptr(os.Getpagesize())
	p, n := address(b), uintptr(len(b))
	skip := (page - p%page) % page
	if n < skip+page {
		return
	}
	mapped.RLock()
	defer mapped.RUnlock()
	for start, size := range mapped.size {
		if p >= start && p+n <= start+size {
			_ = unix.Madvise(b[skip:skip+(n-skip)/page*page], unix.MADV_DONTNEED)
			return
		}
	}
}
