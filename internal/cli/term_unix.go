//go:build unix

package cli

import "golang.org/x/sys/unix"

// terminalWidth returns the columns of a terminal; ok is false for anything else.
func terminalWidth(fd uintptr) (width int, ok bool) {
	ws, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(ws.Col), true
}
