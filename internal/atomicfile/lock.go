package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// LockName is the file that says which process writes into a folder. It counts only
// while that process holds its lock.
const LockName = Prefix + "lock"

// BusyError says that another process writes into a folder.
type BusyError struct {
	Path string
	// PID is the process, 0 when it is not known; Host its computer when that is not
	// this one.
	PID  int
	Host string
}

func (e *BusyError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	if e.Host != "" {
		who += " on " + e.Host
	}
	return fmt.Sprintf("%s: %s is writing into this folder", e.Path, who)
}

// Lock is the right to write into a folder. It ends with Release, or with the
// process.
type Lock struct {
	// Unchecked says that the file system has no locks.
	Unchecked bool

	f    *os.File
	path string
	made []string // folders that LockDir has made, the innermost first
}

// LockDir takes the folder for this process, and makes it if there is none. The
// error is a [*BusyError] while somebody else has it, also this process itself.
func LockDir(dir string) (*Lock, error) {
	made, err := makeDirs(dir)
	if err != nil {
		return nil, err
	}
	l := &Lock{path: filepath.Join(dir, LockName), made: made}
	for range 100 {
		f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			l.Release()
			return nil, err
		}
		err = claim(f)
		switch {
		case errors.Is(err, errClaimed):
			busy := &BusyError{Path: dir}
			busy.PID, busy.Host = owner(l.path)
			f.Close()
			return nil, busy
		case err != nil: // no locks here
			l.Unchecked = true
		case !stands(f, l.path): // its owner removed it just now
			f.Close()
			continue
		}
		l.f = f
		host, _ := os.Hostname() // for people
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), host), 0)
		}
		if err != nil {
			l.Release()
			return nil, err
		}
		return l, nil
	}
	return nil, &BusyError{Path: dir}
}

// owner reads who holds a lock. He may be about to write his name.
func owner(path string) (pid int, host string) {
	for range 20 {
		b, err := os.ReadFile(path)
		if err != nil {
			return 0, ""
		}
		if id, rest, ok := strings.Cut(strings.TrimSuffix(string(b), "\n"), " "); ok && strings.HasSuffix(string(b), "\n") {
			if n, err := strconv.Atoi(id); err == nil && n > 0 {
				if own, err := os.Hostname(); err == nil && own == rest {
					rest = ""
				}
				return n, rest
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, ""
}

// Release gives the folder back, and removes it if it was made for the lock and
// nothing was written.
func (l *Lock) Release() {
	if l == nil {
		return
	}
	if l.f != nil {
		if renameOpen {
			os.Remove(l.path) // while it is ours
		}
		l.f.Close()
		if !renameOpen {
			os.Remove(l.path)
		}
		l.f = nil
	}
	for _, d := range l.made {
		if os.Remove(d) != nil {
			break
		}
	}
	l.made = nil
}

// makeDirs makes a folder and those above it, and returns the new ones, the
// innermost first.
func makeDirs(dir string) ([]string, error) {
	var made []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o777)
}
