//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFolders says that folders are locked as files are; renameOpen that a file
// is renamed while it is open, so that its lock covers that too.
const (
	lockFolders = true
	renameOpen  = true
)

// claim locks an open file or folder until it is closed. Some network file systems
// have no locks: their error is not errClaimed.
func claim(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			return errClaimed
		}
		return err
	}
}

// reclaim calls remove if no process holds the lock of the file or folder, and
// holds it meanwhile.
func reclaim(name string, remove func()) bool {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if claim(f) != nil || !stands(f, name) {
		return false
	}
	remove()
	return true
}
