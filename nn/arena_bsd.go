//go:build (darwin || freebsd || netbsd || openbsd) && !race

package nn

func adviseHuge([]byte) {}
