//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package atomicfile

import (
	"errors"
	"os"
)

const (
	lockFolders = false
	renameOpen  = false
)

// claim is where the system has locks that go with their process.
func claim(*os.File) error { return errors.ErrUnsupported }

// reclaim leaves everything: nobody knows whose it is.
func reclaim(string, func()) bool { return false }
