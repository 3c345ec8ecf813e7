package cli

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// garbageShare is the percentage of the heap that may lie about as garbage while
	// a model trains. Most of the heap are parameters and moments, which the collector
	// passes over at no cost, so Go's own 100 would waste as much memory again.
	garbageShare = 20
	// garbageAtLeast bytes may lie about in any case: a step of a small model is too
	// short to collect after each.
	garbageAtLeast = 12 << 20
)

// collectOften lets the garbage collector run so often that garbage stays a small
// part of the memory, unless the environment says how often (GOGC). It returns the
// percentage, as in debug.SetGCPercent, and a function that puts things back.
func collectOften() (percent int, restore func()) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	percent = int(min(100, max(garbageShare, 100*garbageAtLeast/max(1, m.HeapAlloc))))
	before := debug.SetGCPercent(percent)
	if os.Getenv("GOGC") != "" {
		debug.SetGCPercent(before)
		percent = before
	}
	return percent, func() { debug.SetGCPercent(before) }
}
