package cli

import "golang.org/x/sys/unix"

type memoryInfo struct{ total, available, limit int64 }

// systemMemory asks the kernel for the size of memory.
func systemMemory() (m memoryInfo) {
	if v, err := unix.SysctlUint64("hw.memsize"); err == nil {
		m.total = int64(v)
	}
	return m
}
