//go:build !(linux || darwin || freebsd || netbsd || openbsd) || race

package nn

// newChunk takes n elements from the Go heap: for systems without mmap, and for
// the race detector, which watches nothing else.
func newChunk(n int) []float32 { return make([]float32, n) }

func freeChunk([]float32) {}
