package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var errDisk = errors.New("disk")

// failAt lets the n-th step of kind op fail, counting from 0.
func failAt(op Op, n int) func() {
	return SetFault(func(o Op, _ string) error {
		if o == op {
			if n--; n < 0 {
				return errDisk
			}
		}
		return nil
	})
}

// list returns "name=content" of all files below dir.
func list(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if d.IsDir() {
			require.False(t, strings.HasPrefix(d.Name(), Prefix), "left behind: %s", rel)
			return nil
		}
		b, err := os.ReadFile(p)
		if len(b) > 20 {
			b = []byte(fmt.Sprint(len(b)))
		}
		out = append(out, rel+"="+string(b))
		return err
	}))
	sort.Strings(out)
	return strings.Join(out, " ")
}

func put(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	f, err := Create(path)
	require.NoError(t, err)
	big := strings.Repeat("x", 3*bufferSize+5)
	n, err := io.WriteString(f, big)
	require.NoError(t, err)
	require.Equal(t, len(big), n)
	m, err := f.ReadFrom(strings.NewReader("tail"))
	require.NoError(t, err)
	require.EqualValues(t, 4, m)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist, "not seen before Commit")
	require.NoError(t, f.Commit())
	f.Abort()
	require.Error(t, f.Commit())
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, big+"tail", string(got))
	require.NoError(t, WriteBytes(path, []byte("new")))
	require.Equal(t, "f=new", list(t, dir))
}

func TestFileKeepsOldOnError(t *testing.T) {
	for _, op := range []Op{OpCreate, OpWrite, OpSync, OpRename} {
		t.Run(string(op), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			put(t, path, "old")
			defer failAt(op, 0)()
			require.ErrorIs(t, WriteBytes(path, make([]byte, 3*bufferSize)), errDisk)
			require.Equal(t, "f=old", list(t, dir))
		})
	}
	t.Run("abort", func(t *testing.T) {
		dir := t.TempDir()
		f, err := Create(filepath.Join(dir, "f"))
		require.NoError(t, err)
		f.Abort()
		f.Abort()
		require.Empty(t, list(t, dir))
	})
	t.Run("write error is remembered", func(t *testing.T) {
		dir := t.TempDir()
		f, err := Create(filepath.Join(dir, "f"))
		require.NoError(t, err)
		restore := failAt(OpWrite, 0)
		_, err = f.Write(make([]byte, 2*bufferSize))
		require.ErrorIs(t, err, errDisk)
		restore()
		require.ErrorIs(t, f.Commit(), errDisk)
		require.Empty(t, list(t, dir))
	})
	t.Run("cancelled", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		err := WriteFile(ctx, filepath.Join(dir, "f"), nil, func(io.Writer) error { cancel(); return nil })
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, list(t, dir))
	})
}

func TestFileRefuses(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	put(t, src, "source")
	_, err := Create(src, src)
	require.ErrorIs(t, err, ErrSource)
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(src, link))
	_, err = Create(link, src)
	require.ErrorIs(t, err, ErrSource, "through a link")
	hard := filepath.Join(dir, "hard")
	require.NoError(t, os.Link(src, hard))
	_, err = Create(hard, src)
	require.ErrorIs(t, err, ErrSource, "under a second name")
	_, err = Create(dir)
	require.ErrorContains(t, err, "is a folder")
	_, err = Create(os.DevNull)
	require.ErrorContains(t, err, "device")
	_, err = Create(filepath.Join(dir, "none", "f"))
	require.ErrorIs(t, err, os.ErrNotExist)

	require.NoError(t, WriteBytes(link, []byte("via link")))
	st, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, st.Mode()&os.ModeSymlink, "the link stays")
	b, _ := os.ReadFile(src)
	require.Equal(t, "via link", string(b))
}

// fill writes a model of two files.
func fill(gen string) func(dir string) error {
	return func(dir string) error {
		for _, n := range []string{"config", "weights"} {
			if err := os.WriteFile(filepath.Join(dir, n), []byte(gen), 0o666); err != nil {
				return err
			}
		}
		return nil
	}
}

func owned(n string) bool { return n == "config" || n == "weights" || n == "shard" }

func TestDir(t *testing.T) {
	tests := []struct {
		name   string
		before map[string]string
		keep   bool
		want   string // "" is an error
	}{
		{"new", nil, false, "m/config=new m/weights=new"},
		{"empty", map[string]string{"m/": ""}, false, "m/config=new m/weights=new"},
		{"old model", map[string]string{"m/config": "old", "m/weights": "old", "m/shard": "old"}, false, "m/config=new m/weights=new"},
		{"old model, keeping", map[string]string{"m/config": "old", "m/shard": "old"}, true, "m/config=new m/weights=new"},
		{"somebody's", map[string]string{"m/config": "old", "m/notes": "x"}, false, ""},
		{"somebody's, keeping", map[string]string{"m/config": "old", "m/shard": "old", "m/notes": "x", "m/d/f": "y"}, true, "m/config=new m/d/f=y m/notes=x m/weights=new"},
		{"owned name is a folder", map[string]string{"m/config/f": "x"}, false, ""},
		{"after a crash", map[string]string{"m/" + Prefix + "m-1-0/config": "half", "m/notes": "x"}, true, "m/config=new m/notes=x m/weights=new"},
		{"after a crash, alone", map[string]string{"m/" + Prefix + "m-1-0/config": "half", "m/" + Prefix + "x": "half"}, false, "m/config=new m/weights=new"},
		{"below a new folder", nil, false, "m/config=new m/weights=new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for n, s := range tt.before {
				if strings.HasSuffix(n, "/") {
					require.NoError(t, os.Mkdir(filepath.Join(dir, n), 0o777))
					continue
				}
				put(t, filepath.Join(dir, n), s)
			}
			err := WriteDir(context.Background(), filepath.Join(dir, "m"), DirOptions{Owned: owned, Marker: "config", KeepOthers: tt.keep}, fill("new"))
			if tt.want == "" {
				require.ErrorIs(t, err, ErrNotEmpty)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, list(t, dir))
		})
	}
}

// TestDirFaults lets every single step fail: the folder is the old one or the
// new one, and nothing is left behind.
func TestDirFaults(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, op := range []Op{OpCreate, OpSync, OpRename} {
			for n := 0; n < 12; n++ {
				dir := t.TempDir()
				path := filepath.Join(dir, "m")
				for _, f := range []string{"config", "shard", "weights"} {
					put(t, filepath.Join(path, f), "old")
				}
				if keep {
					put(t, filepath.Join(path, "notes"), "mine")
				}
				before := list(t, dir)
				restore := failAt(op, n)
				err := WriteDir(context.Background(), path, DirOptions{Owned: owned, Marker: "config", KeepOthers: keep}, fill("new"))
				restore()
				if err != nil {
					require.ErrorIs(t, err, errDisk)
					require.Equal(t, before, list(t, dir), "%s %d keep %v", op, n, keep)
				} else {
					require.Contains(t, list(t, dir), "m/config=new")
					require.NotContains(t, list(t, dir), "old")
				}
			}
		}
	}
}

// TestDirInPlace is the way for mount points, whose name cannot be exchanged.
func TestDirInPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m")
	put(t, filepath.Join(path, "config"), "old")
	put(t, filepath.Join(path, "shard"), "old")
	t.Chdir(path)
	require.NoError(t, WriteDir(context.Background(), ".", DirOptions{Owned: owned, Marker: "config"}, fill("new")))
	b, err := os.ReadFile("config")
	require.NoError(t, err, "the current folder is still the one that was written")
	require.Equal(t, "new", string(b))
	require.Equal(t, "m/config=new m/weights=new", list(t, dir))

	for _, before := range []string{"old", ""} {
		path := filepath.Join(dir, "mount"+before)
		require.NoError(t, os.Mkdir(path, 0o777))
		if before != "" {
			put(t, filepath.Join(path, "config"), before)
			put(t, filepath.Join(path, "shard"), before)
		}
		restore := failAt(OpExchange, 0)
		require.NoError(t, WriteDir(context.Background(), path, DirOptions{Owned: owned, Marker: "config"}, fill("new")))
		restore()
		require.Equal(t, "config=new weights=new", list(t, path))
	}
}

func TestDirRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m")
	put(t, filepath.Join(path, "weights"), "source")
	opt := DirOptions{Owned: owned, Marker: "config", Sources: []string{filepath.Join(path, "weights")}}
	require.ErrorIs(t, WriteDir(context.Background(), path, opt, fill("new")), ErrSource)
	require.ErrorContains(t, WriteDir(context.Background(), filepath.Join(path, "weights"), opt, fill("new")), "is a file")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, WriteDir(ctx, filepath.Join(dir, "n"), DirOptions{}, fill("new")), context.Canceled)
	require.ErrorIs(t, WriteDir(context.Background(), filepath.Join(dir, "n"), DirOptions{}, func(string) error { return errDisk }), errDisk)
	require.Equal(t, "m/weights=source", list(t, dir))
	deep := filepath.Join(dir, "a", "b", "c")
	require.NoError(t, WriteDir(context.Background(), deep, DirOptions{}, fill("new")))
	require.Equal(t, "config=new weights=new", list(t, deep))
}
