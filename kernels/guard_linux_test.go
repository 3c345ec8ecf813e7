package kernels

import (
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// guarded returns two slices of n elements in memory of their own: one that ends
// at a page which faults when touched, one that begins behind such a page.
func guarded[T float32 | byte](t testing.TB, n int) (tail, head []T) {
	page := syscall.Getpagesize()
	size := n * int(unsafe.Sizeof(*new(T)))
	body := (size + page - 1) / page * page
	for i := range 2 {
		mem, err := syscall.Mmap(-1, 0, body+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, syscall.Munmap(mem)) })
		require.NoError(t, syscall.Mprotect(mem[:page], syscall.PROT_NONE))
		require.NoError(t, syscall.Mprotect(mem[page+body:], syscall.PROT_NONE))
		at := page
		if i == 0 {
			at = page + body - size
		}
		if body == 0 {
			continue
		}
		s := unsafe.Slice((*T)(unsafe.Pointer(&mem[at:][:1][0])), n)
		if i == 0 {
			tail = s
		} else {
			head = s
		}
	}
	return tail, head
}
