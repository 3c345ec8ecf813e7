package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Prefix begins the name of every temporary file and folder.
const Prefix = ".peftkit-"

// asideName is the folder inside a temporary one that keeps what the files that
// are just moved in replace.
const asideName = Prefix + "old"

// A temporary file or folder belongs to a process, which holds a lock on it: the
// lock goes with the process, however that ends. What nobody holds a lock on is
// what a killed process left. The process id in the name is only told to users,
// and asked where folders cannot be locked (Windows): it may be another process's
// by now.

// errClaimed says that another process holds the lock.
var errClaimed = errors.New("locked by another process")

// tempName is the name of the i-th temporary file of this process for base.
func tempName(base string, i int) string {
	return fmt.Sprintf("%s%d-%d", tempStem(base), os.Getpid(), i)
}

func tempStem(base string) string {
	if len(base) > 100 {
		base = base[:100]
	}
	return Prefix + strings.TrimPrefix(base, Prefix) + "-"
}

// tempOwner returns the process id in the name of a temporary file.
func tempOwner(name string) (pid int, ok bool) {
	if !strings.HasPrefix(name, Prefix) {
		return 0, false
	}
	name, number, _ := cutLast(name, "-")
	if _, err := strconv.ParseUint(number, 10, 31); err != nil {
		return 0, false
	}
	_, number, _ = cutLast(name, "-")
	id, err := strconv.ParseUint(number, 10, 31)
	return int(id), err == nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// createTemp makes a new file with the permissions that the umask leaves.
func createTemp(dir, base string) (*os.File, error) {
	for i := 0; ; i++ {
		name := filepath.Join(dir, tempName(base, i))
		if err := check(OpCreate, name); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if err == nil && !own(f, name) {
			f.Close()
			err = &os.PathError{Op: "create", Path: name, Err: os.ErrExist}
		}
		if !errors.Is(err, os.ErrExist) || i > 1000 {
			return f, err
		}
	}
}

// createTempDir makes a new folder. The handle, which may be nil, is its lock.
func createTempDir(parent, base string) (string, *os.File, error) {
	for i := 0; ; i++ {
		dir := filepath.Join(parent, tempName(base, i))
		err := check(OpCreate, dir)
		if err == nil {
			err = os.Mkdir(dir, 0o777)
		}
		if err == nil {
			if !lockFolders {
				return dir, nil, nil
			}
			f, e := os.Open(dir)
			if e == nil && own(f, dir) {
				return dir, f, nil
			}
			if e == nil {
				f.Close()
			}
			err = os.ErrExist
		}
		if !errors.Is(err, os.ErrExist) {
			return "", nil, err
		}
		if i > 1000 {
			return "", nil, &os.PathError{Op: "create", Path: dir, Err: errors.New("too many temporary folders beside it")}
		}
	}
}

// own locks what was just made. It is false when another process, which came
// between making and locking, took it for left behind.
func own(f *os.File, name string) bool {
	if err := claim(f); errors.Is(err, errClaimed) {
		return false
	}
	return stands(f, name)
}

// stands reports whether the open file is still the one under the name.
func stands(f *os.File, name string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(name)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// Sweep removes the temporary files and folders in dir that killed processes have
// left. What stands in the middle of a replacement stays, as it holds the content
// that is replaced; the next WriteDir to that folder removes it once it is done.
func Sweep(dir string) { sweep(dir, Prefix) }

// sweepFor removes what killed writers of path have left beside it.
func sweepFor(path string) { sweep(filepath.Dir(path), tempStem(filepath.Base(path))) }

// sweep is a courtesy: what cannot be read or removed is left.
func sweep(dir, stem string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), stem)
		if _, temp := tempOwner(e.Name()); !ok || !temp || stem != Prefix && strings.Count(rest, "-") != 1 {
			continue
		}
		if name := filepath.Join(dir, e.Name()); !replacing(name) {
			reclaim(name, func() { os.RemoveAll(name) })
		}
	}
}

// replacing reports whether a temporary folder holds what its files replace.
func replacing(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, asideName))
	return err == nil
}

// leftOver reports whether an entry of an output folder is what a killed process
// has left. pid is the process that holds it, when that is known.
func leftOver(name string) (left bool, pid int) {
	if filepath.Base(name) == LockName {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return false, 0
		}
		defer f.Close()
		if !errors.Is(claim(f), errClaimed) {
			return true, 0
		}
		pid, _ = owner(name)
		return false, pid
	}
	pid, temp := tempOwner(filepath.Base(name))
	return !temp || reclaim(name, func() {}), pid
}

// RemoveAll removes a folder under a temporary name, so that a half of it is never
// taken for the whole, and is removed later when this process is killed before it
// is done.
func RemoveAll(path string) error {
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	for i := 0; i < 1000; i++ {
		name := filepath.Join(dir, tempName(base, i))
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		if os.Rename(path, name) != nil {
			break
		}
		return os.RemoveAll(name)
	}
	return os.RemoveAll(path)
}
