package atomicfile

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

const (
	lockFolders = false
	renameOpen  = false
)

// lockAt is a byte that no file has: Windows keeps others from reading what is locked.
const lockAt = 1 << 30

// claim locks an open file until it is closed.
func claim(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: lockAt}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errClaimed
	}
	return err
}

// reclaim calls remove if the process in the name is no more. A process that has
// the same number by chance keeps what was left until it ends.
func reclaim(name string, remove func()) bool {
	pid, ok := tempOwner(filepath.Base(name))
	if !ok || alive(pid) {
		return false
	}
	remove()
	return true
}

func alive(pid int) bool {
	if pid == os.Getpid() {
		return true
	}
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return !errors.Is(err, windows.ERROR_INVALID_PARAMETER) // there is none
	}
	defer windows.CloseHandle(h)
	const stillActive = 259
	var code uint32
	return windows.GetExitCodeProcess(h, &code) != nil || code == stillActive
}
