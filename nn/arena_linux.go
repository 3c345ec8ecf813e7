//go:build !race

package nn

import "golang.org/x/sys/unix"

// adviseHuge asks for large pages; a system without them says no.
func adviseHuge(mem []byte) { _ = unix.Madvise(mem, unix.MADV_HUGEPAGE) }
