//go:build linux || darwin

package convert

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// peakMemory returns the largest resident size of the process so far.
func peakMemory() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	n := int64(u.Maxrss)
	if runtime.GOOS == "linux" {
		n *= 1024 // Linux counts kilobytes, macOS bytes
	}
	return n
}
