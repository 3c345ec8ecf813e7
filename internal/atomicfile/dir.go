package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// DirOptions says what may be done to a folder that exists already.
type DirOptions struct {
	// Owned tells by name which entries of an existing folder belong to what is
	// written and are replaced by it. nil owns none.
	Owned func(name string) bool
	// OwnedDirs says that folders can be owned too; otherwise only files are.
	OwnedDirs bool
	// Marker is the file without which readers do not accept the folder. When
	// a folder cannot be replaced by one rename, it is taken away first and
	// put back last, so that a crash in between cannot pass for a whole folder.
	Marker string
	// KeepOthers leaves entries that are not owned where they are. Without it
	// a folder that holds any is refused.
	KeepOthers bool
	// Sources are files that must not be overwritten.
	Sources []string
}

// ErrNotEmpty says that the output folder holds files that are not the writer's to replace.
var ErrNotEmpty = errors.New("the folder holds other files: choose a new or empty one")

// WriteDir writes a folder: build fills a temporary one, whose files are then
// synced and put under path. A new folder appears by one rename; so does one that
// replaces a folder whose every entry is owned, where the system can exchange two
// names. Otherwise (entries to keep, a mount point) the files move in one by one,
// the marker last, and an error moves the old ones back.
func WriteDir(ctx context.Context, path string, opt DirOptions, build func(dir string) error) error {
	if opt.Owned == nil {
		opt.Owned = func(string) bool { return false }
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o777); err != nil {
		return err
	}
	if path, err = resolve(abs); err != nil {
		return err
	}
	sweepFor(path)
	old, err := survey(path, opt, "")
	if err != nil {
		return err
	}
	stage, lock, err := stageDir(path, old)
	if err != nil {
		return err
	}
	defer lock.Close() // nil where folders have no locks
	defer os.RemoveAll(stage)
	if err := build(stage); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := syncTree(stage); err != nil {
		return err
	}
	// Somebody may have written there meanwhile.
	if old, err = survey(path, opt, stage); err != nil {
		return err
	}
	return install(stage, path, old, opt)
}

// target is what stands at the output path before writing.
type target struct {
	exists bool
	owned  []string // entries that are replaced
	others int      // entries that stay
}

// survey looks at the output path; stage, which may lie in it, is ours.
func survey(path string, opt DirOptions, stage string) (target, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return target{}, nil
	}
	if err != nil {
		return target{}, err
	}
	if !st.IsDir() {
		return target{}, &os.PathError{Op: "create", Path: path, Err: errors.New("is a file: give the name of a folder")}
	}
	Sweep(path)
	entries, err := os.ReadDir(path)
	if err != nil {
		return target{}, err
	}
	t := target{exists: true}
	var others []string
	for _, e := range entries {
		switch {
		case filepath.Join(path, e.Name()) == stage:
		case strings.HasPrefix(e.Name(), Prefix) && (e.IsDir() || !opt.KeepOthers):
			switch left, pid := leftOver(filepath.Join(path, e.Name())); {
			case left: // it goes when the new content is in place
				t.owned = append(t.owned, e.Name())
			case opt.KeepOthers:
				others = append(others, e.Name())
			default:
				return target{}, &BusyError{Path: path, PID: pid}
			}
		case opt.Owned(e.Name()) && (opt.OwnedDirs || !e.IsDir()):
			t.owned = append(t.owned, e.Name())
			if err := refuseSource(filepath.Join(path, e.Name()), opt.Sources); err != nil {
				return target{}, err
			}
		default:
			others = append(others, e.Name())
		}
	}
	t.others = len(others)
	if len(others) > 0 && !opt.KeepOthers {
		sort.Strings(others)
		if len(others) > 4 {
			others = append(others[:4], "...")
		}
		return target{}, &os.PathError{Op: "write", Path: path, Err: fmt.Errorf("%w (found %s)", ErrNotEmpty, strings.Join(others, ", "))}
	}
	return t, nil
}

// stageDir makes the temporary folder: a sibling, so that one rename is enough,
// or inside the target when that has to stay or its parent cannot be written.
func stageDir(path string, old target) (string, *os.File, error) {
	parents := []string{filepath.Dir(path)}
	if old.others > 0 || isWorkingDir(path) {
		parents = []string{path}
	} else if old.exists {
		parents = append(parents, path)
	}
	var first error
	for _, parent := range parents {
		dir, lock, err := createTempDir(parent, filepath.Base(path))
		if err == nil {
			return dir, lock, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", nil, first
}

// isWorkingDir reports whether path is the current folder of the process, which
// must stay the same folder for the shell that started it.
func isWorkingDir(path string) bool {
	a, err := os.Stat(".")
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// syncTree syncs every file and folder below dir.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return syncDir(p)
		}
		if err := check(OpSync, p); err != nil {
			return err
		}
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

func install(stage, path string, old target, opt DirOptions) error {
	inside := filepath.Dir(stage) == path
	if !inside {
		if err := check(OpRename, path); err != nil {
			return err
		}
		switch {
		case old.others > 0: // they have come since
		case !old.exists, len(old.owned) == 0:
			err := error(nil)
			if old.exists {
				err = check(OpExchange, path)
			}
			if err == nil {
				err = os.Rename(stage, path)
			}
			if err == nil {
				return syncDir(filepath.Dir(path))
			} else if !old.exists {
				return err
			}
		default:
			err := check(OpExchange, path)
			if err == nil {
				err = exchange(stage, path)
			}
			if err == nil {
				// stage is now the old folder; WriteDir removes it
				return syncDir(filepath.Dir(path))
			}
		}
		// The target is a mount point or the system cannot exchange names:
		// bring the files to its own file system first.
		moved, lock, err := stageDir(path, target{exists: true, others: 1})
		if err != nil {
			return err
		}
		defer lock.Close()
		defer os.RemoveAll(moved)
		if err := copyTree(stage, moved); err != nil {
			return err
		}
		stage = moved
	}
	return moveIn(stage, path, old, opt)
}

// moveIn replaces the owned entries of path by those of stage, which lies on
// the same file system.
func moveIn(stage, path string, old target, opt DirOptions) (err error) {
	entries, err := os.ReadDir(stage)
	if err != nil {
		return err
	}
	aside := filepath.Join(stage, asideName)
	if err := os.Mkdir(aside, 0o777); err != nil {
		return err
	}
	type move struct{ from, to string }
	var moves []move
	add := func(from, to string) { moves = append(moves, move{from, to}) }
	out := slices.DeleteFunc(slices.Clone(old.owned), func(n string) bool {
		return strings.HasPrefix(n, Prefix)
	})
	// Old marker out first, new marker in last.
	sort.SliceStable(out, func(i, j int) bool { return out[i] == opt.Marker && out[j] != opt.Marker })
	for _, n := range out {
		add(filepath.Join(path, n), filepath.Join(aside, n))
	}
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].Name() != opt.Marker && entries[j].Name() == opt.Marker })
	for _, e := range entries {
		add(filepath.Join(stage, e.Name()), filepath.Join(path, e.Name()))
	}
	done := 0
	defer func() {
		if err == nil {
			return
		}
		for done--; done >= 0; done-- {
			_ = os.Rename(moves[done].to, moves[done].from)
		}
	}()
	for _, m := range moves {
		if err := rename(m.from, m.to); err != nil {
			return err
		}
		done++
	}
	for _, n := range old.owned {
		if p := filepath.Join(path, n); strings.HasPrefix(n, Prefix) && p != stage {
			os.RemoveAll(p)
		}
	}
	return syncDir(path)
}

// copyTree copies the files and folders of from into to and syncs them.
func copyTree(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := os.Mkdir(filepath.Join(to, e.Name()), 0o777); err != nil {
				return err
			}
			if err := copyTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return err
			}
			continue
		}
		src, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		err = WriteFile(context.Background(), filepath.Join(to, e.Name()), nil, func(w io.Writer) error {
			_, err := io.Copy(w, src)
			return err
		})
		src.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
