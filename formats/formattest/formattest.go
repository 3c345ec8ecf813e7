// Package formattest is the conformance suite of file formats: what every
// plug-in of package formats must do, whoever wrote it. A format calls [Run] from
// its own test with a small model or adapter in its naming.
package formattest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

// Case is what Run writes and reads back.
type Case struct {
	// Path is the name to write under: a file name or a folder name, with the
	// suffix that the format expects.
	Path string
	// Model and Adapter are written if they are not nil; the format must then
	// be a reader and a writer of them. Keep them small: every byte is damaged
	// in turn.
	Model   *formats.OutModel
	Adapter *formats.OutAdapter
}

// Run checks that f writes c so that it reads back equal, that writing is all or
// nothing, and that no damaged file does harm.
func Run(t *testing.T, f formats.Format, c Case) {
	t.Helper()
	t.Run("description", func(t *testing.T) {
		require.NotEmpty(t, f.Name())
		require.NotEmpty(t, f.Doc())
		require.NotContains(t, f.Doc(), "\n")
		g, err := formats.ByName(f.Name())
		require.NoError(t, err, "the format registers itself")
		require.Equal(t, f, g)
	})
	t.Run("absent", func(t *testing.T) {
		none := filepath.Join(t.TempDir(), "none")
		require.Equal(t, formats.No, f.Probe(none))
		require.Equal(t, formats.No, f.Probe(t.TempDir()))
	})
	if c.Model != nil {
		t.Run("model", func(t *testing.T) { (&suite{c: c, s: modelSide(f, c.Model)}).run(t) })
	}
	if c.Adapter != nil {
		t.Run("adapter", func(t *testing.T) { (&suite{c: c, s: adapterSide(f, c.Adapter)}).run(t) })
	}
}

// content is what models and adapters have in common.
type content struct {
	config  json.RawMessage
	meta    formats.Meta
	files   map[string][]byte
	tensors []*tensor.Tensor
	sources []string
	close   func() error
}

// side hides whether a model or an adapter is tested.
type side struct {
	tensors []formats.OutTensor
	want    content // of the original, without tensors
	probe   func(path string) formats.Confidence
	open    func(path string) (*content, error)
	write   func(ctx context.Context, path string, tensors []formats.OutTensor, sources []string) error
	detect  func(path string) (string, error)
	wrong   func(path string) error // opens it as the other kind
}

func modelSide(f formats.Format, m *formats.OutModel) side {
	r, w := f.(formats.ModelReader), f.(formats.ModelWriter)
	return side{
		tensors: m.Tensors,
		want:    content{config: m.Config, meta: m.Meta, files: m.Files},
		probe:   r.Probe,
		open: func(path string) (*content, error) {
			x, err := r.OpenModel(path)
			if err != nil {
				return nil, err
			}
			return &content{x.Config, x.Meta, x.Files, x.Tensors, x.Sources, x.Close}, nil
		},
		write: func(ctx context.Context, path string, tensors []formats.OutTensor, sources []string) error {
			o := *m
			o.Tensors, o.Sources = tensors, sources
			return w.WriteModel(ctx, path, &o)
		},
		detect: func(path string) (string, error) {
			x, err := formats.OpenModel(path)
			if err != nil {
				return "", err
			}
			return x.Format, x.Close()
		},
		wrong: func(path string) error { _, err := formats.OpenAdapter(path); return err },
	}
}

func adapterSide(f formats.Format, a *formats.OutAdapter) side {
	r, w := f.(formats.AdapterReader), f.(formats.AdapterWriter)
	return side{
		tensors: a.Tensors,
		want:    content{config: a.Config, meta: a.Meta, files: a.Files},
		probe:   r.ProbeAdapter,
		open: func(path string) (*content, error) {
			x, err := r.OpenAdapter(path)
			if err != nil {
				return nil, err
			}
			return &content{x.Config, x.Meta, x.Files, x.Tensors, x.Sources, x.Close}, nil
		},
		write: func(ctx context.Context, path string, tensors []formats.OutTensor, sources []string) error {
			o := *a
			o.Tensors, o.Sources = tensors, sources
			return w.WriteAdapter(ctx, path, &o)
		},
		detect: func(path string) (string, error) {
			x, err := formats.OpenAdapter(path)
			if err != nil {
				return "", err
			}
			return x.Format, x.Close()
		},
		wrong: func(path string) error { _, err := formats.OpenModel(path); return err },
	}
}

type suite struct {
	c Case
	s side
}

func (s *suite) run(t *testing.T) {
	t.Run("round trip", s.roundTrip)
	t.Run("all or nothing", s.allOrNothing)
	t.Run("damage", s.damage)
}

// written writes the original into a new folder and returns its path.
func (s *suite) written(t *testing.T) string {
	path := filepath.Join(t.TempDir(), s.c.Path)
	require.NoError(t, s.s.write(context.Background(), path, s.s.tensors, nil))
	return path
}

func (s *suite) roundTrip(t *testing.T) {
	path := s.written(t)
	require.Equal(t, formats.Yes, s.s.probe(path))
	name, err := s.s.detect(path)
	require.NoError(t, err)
	require.NotEmpty(t, name)
	require.Error(t, s.s.wrong(path), "models and adapters are told apart")

	got, err := s.s.open(path)
	require.NoError(t, err)
	defer got.close()
	requireEqual(t, &s.s.want, s.s.tensors, got)
	for name := range tree(t, path) {
		require.Contains(t, got.sources, filepath.Join(filepath.Dir(path), name), "every file is a source")
	}
	for _, x := range got.tensors {
		require.NotEmpty(t, x.File)
		b, err := os.ReadFile(x.File)
		require.NoError(t, err)
		require.True(t, bytes.Equal(b[x.Offset:x.Offset+int64(len(x.Data))], x.Data), "offset of %s", x.Name)
	}

	again := filepath.Join(t.TempDir(), s.c.Path)
	require.NoError(t, s.s.write(context.Background(), again, formats.Copy(got.tensors), nil))
	require.Equal(t, tree(t, path), tree(t, again), "what was read writes the same bytes")
}

func requireEqual(t *testing.T, want *content, tensors []formats.OutTensor, got *content) {
	t.Helper()
	require.Equal(t, string(want.config), string(got.config))
	require.Equal(t, want.meta, got.meta)
	for name, b := range want.files {
		require.True(t, bytes.Equal(b, got.files[name]), "side file %s", name)
	}
	require.Len(t, got.tensors, len(tensors))
	byName := map[string]*tensor.Tensor{}
	for _, x := range got.tensors {
		byName[x.Name] = x
	}
	for i := range tensors {
		w := &tensors[i]
		g := byName[w.Name]
		require.NotNil(t, g, "tensor %s", w.Name)
		require.Same(t, w.Type, g.Type, "type of %s", w.Name)
		require.True(t, slices.Equal(w.Shape, g.Shape), "shape of %s: %v, was %v", w.Name, g.Shape, w.Shape)
		var b bytes.Buffer
		require.NoError(t, w.WriteTo(&b))
		require.True(t, bytes.Equal(b.Bytes(), g.Data), "data of %s", w.Name)
	}
}

var errDisk = errors.New("no space left on device")

func (s *suite) allOrNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	last := len(s.s.tensors) - 1
	change := func(write func(io.Writer) error) []formats.OutTensor {
		x := append([]formats.OutTensor(nil), s.s.tensors...)
		x[last].WriteTo = write
		return x
	}
	tests := []struct {
		name    string
		ctx     context.Context
		tensors []formats.OutTensor
		fault   atomicfile.Op
		want    error
	}{
		{name: "cancelled", ctx: cancelled, tensors: s.s.tensors, want: context.Canceled},
		{name: "producer fails", tensors: change(func(io.Writer) error { return errDisk }), want: errDisk},
		{name: "too few bytes", tensors: change(func(io.Writer) error { return nil }), want: formats.ErrOutput},
		{name: "too many bytes", tensors: change(func(w io.Writer) error { _, err := w.Write(make([]byte, 1<<20)); return err }), want: formats.ErrOutput},
		{name: "repeated name", tensors: append(append([]formats.OutTensor(nil), s.s.tensors...), s.s.tensors[0]), want: formats.ErrOutput},
		{name: "cannot create", tensors: s.s.tensors, fault: atomicfile.OpCreate, want: errDisk},
		{name: "disk full", tensors: s.s.tensors, fault: atomicfile.OpWrite, want: errDisk},
		{name: "cannot sync", tensors: s.s.tensors, fault: atomicfile.OpSync, want: errDisk},
		{name: "cannot rename", tensors: s.s.tensors, fault: atomicfile.OpRename, want: errDisk},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.ctx == nil {
				tt.ctx = context.Background()
			}
			if tt.fault != "" {
				defer atomicfile.SetFault(func(op atomicfile.Op, _ string) error {
					if op == tt.fault {
						return errDisk
					}
					return nil
				})()
			}
			path := filepath.Join(t.TempDir(), s.c.Path)
			require.ErrorIs(t, s.s.write(tt.ctx, path, tt.tensors, nil), tt.want)
			require.Empty(t, tree(t, filepath.Dir(path)), "nothing is left behind")
		})
		t.Run(tt.name+" over an old one", func(t *testing.T) {
			path := s.written(t)
			before := tree(t, filepath.Dir(path))
			if tt.ctx == nil {
				tt.ctx = context.Background()
			}
			if tt.fault != "" {
				defer atomicfile.SetFault(func(op atomicfile.Op, _ string) error {
					if op == tt.fault {
						return errDisk
					}
					return nil
				})()
			}
			require.ErrorIs(t, s.s.write(tt.ctx, path, tt.tensors, nil), tt.want)
			require.Equal(t, before, tree(t, filepath.Dir(path)), "the old content is untouched")
		})
	}
	t.Run("over an old one", func(t *testing.T) {
		path := s.written(t)
		before := tree(t, filepath.Dir(path))
		require.NoError(t, s.s.write(context.Background(), path, s.s.tensors, nil))
		require.Equal(t, before, tree(t, filepath.Dir(path)))
	})
	t.Run("over its source", func(t *testing.T) {
		path := s.written(t)
		x, err := s.s.open(path)
		require.NoError(t, err)
		defer x.close()
		before := tree(t, filepath.Dir(path))
		require.ErrorIs(t, s.s.write(context.Background(), path, formats.Copy(x.tensors), x.sources), atomicfile.ErrSource)
		require.Equal(t, before, tree(t, filepath.Dir(path)))
	})
}

// maxAlloc bounds what opening a damaged file of a few kilobytes may allocate.
const maxAlloc = 16 << 20

// damage cuts every file at every length and flips bits of every byte.
func (s *suite) damage(t *testing.T) {
	path := s.written(t)
	files := tree(t, path)
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		full, good := filepath.Join(filepath.Dir(path), n), []byte(files[n])
		try := func(what string, at int, b []byte) {
			require.NoError(t, os.WriteFile(full, b, 0o666))
			before := Allocated()
			s.openDamaged(t, path)
			if n := Allocated() - before; n > maxAlloc {
				t.Errorf("%s: %s at %d: %d bytes allocated", full, what, at, n)
			}
		}
		for i := range good {
			try("cut", i, good[:i])
		}
		for i := range good {
			b := bytes.Clone(good)
			for _, mask := range []byte{1, 0x80} {
				b[i] = good[i] ^ mask
				try("flip", i, b)
			}
		}
		require.NoError(t, os.WriteFile(full, good, 0o666))
	}
}

// Allocated returns the bytes that the program has allocated so far. It does not
// stop the world, so a test can ask thousands of times; small objects may be
// counted late.
func Allocated() uint64 {
	m := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64()
}

// openDamaged opens a file that may be anything. It must fail with an error that
// names the file, or give tensors that are whole.
func (s *suite) openDamaged(t *testing.T, path string) {
	t.Helper()
	s.s.probe(path)
	x, err := s.s.open(path)
	if err != nil {
		var fe *formats.FileError
		require.ErrorAs(t, err, &fe)
		require.Contains(t, fe.File, filepath.Dir(path))
		return
	}
	defer x.close()
	for _, y := range x.tensors {
		n, ok := formats.CheckedSize(y.Type, y.Shape)
		if !ok || n != int64(len(y.Data)) {
			t.Fatalf("%s: %v of %s with %d bytes", y.Name, y.Shape, y.Type, len(y.Data))
		}
	}
}

// tree reads every file below path, or the file itself, by its path relative to
// the folder of path.
func tree(t *testing.T, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && strings.HasPrefix(d.Name(), atomicfile.Prefix) {
				t.Errorf("%s was left behind", p)
			}
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(filepath.Dir(path), p)
		out[rel] = string(b)
		return err
	})
	require.NoError(t, err)
	return out
}

// Tensor makes a tensor for a Case: the values 0, 1/8, 2/8 and so on in type d.
// Types without an encoder get the bytes 0, 1, 2 and so on.
func Tensor(name string, d *tensor.DType, shape ...int) formats.OutTensor {
	n, ok := formats.CheckedSize(d, shape)
	if !ok {
		panic("formattest: bad shape of " + name)
	}
	b := make([]byte, n)
	if d.Encode != nil {
		v := make([]float32, n/int64(d.Bytes)*int64(d.Block))
		for i := range v {
			v[i] = float32(i) / 8
		}
		d.Encode(b, v)
	} else {
		for i := range b {
			b[i] = byte(i)
		}
	}
	return formats.OutTensor{Name: name, Type: d, Shape: shape, WriteTo: func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}}
}
