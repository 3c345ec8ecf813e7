//go:build (linux || darwin || freebsd || netbsd || openbsd) && !race

package nn

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// newChunk maps n elements outside of the Go heap: the garbage collector does
// not count them when it decides how much garbage to let pile up, and pages
// that were never touched cost nothing.
func newChunk(n int) []float32 {
	const huge = 2 << 20
	bytes := (n*4 + huge - 1) &^ (huge - 1)
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]float32, n)
	}
	adviseHuge(mem)
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem))), bytes/4)
}

func freeChunk(x []float32) {
	mem := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*4)
	_ = unix.Munmap(mem) // fails for a chunk of the Go heap, which the collector frees
}
