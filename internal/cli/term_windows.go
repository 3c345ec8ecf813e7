package cli

import "golang.org/x/sys/windows"

// terminalWidth returns the columns of a console; ok is false for anything else.
// It also switches the console to understand escape sequences.
func terminalWidth(fd uintptr) (width int, ok bool) {
	h := windows.Handle(fd)
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return 0, false
	}
	if windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return 0, false
	}
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(h, &info) != nil {
		return 80, true
	}
	return int(info.Window.Right-info.Window.Left) + 1, true
}
