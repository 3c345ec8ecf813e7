//go:build !linux && !darwin

package convert

// peakMemory is not known here.
func peakMemory() int64 { return 0 }
