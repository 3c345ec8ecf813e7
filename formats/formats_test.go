package formats_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/formats/gguf"
	_ "github.com/peftkit/peftkit/formats/hfmodel"
	_ "github.com/peftkit/peftkit/formats/hfpeft"
	_ "github.com/peftkit/peftkit/formats/llama2c"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

func TestMeta(t *testing.T) {
	var m formats.Meta
	m.Set("a", uint32(7))
	m.Set("b", "x")
	m.Set("c", float32(0.5))
	m.Set("d", uint64(math.MaxUint64))
	m.Set("a", int8(-3))
	require.Len(t, m, 4)
	v, ok := m.Int("a")
	require.True(t, ok)
	require.EqualValues(t, -3, v)
	_, ok = m.Int("d")
	require.False(t, ok, "does not fit")
	_, ok = m.Int("b")
	require.False(t, ok)
	f, ok := m.Float("c")
	require.True(t, ok)
	require.Equal(t, 0.5, f)
	require.Equal(t, "x", m.Str("b"))
	require.Empty(t, m.Str("none"))
	m.Delete("b")
	m.Delete("none")
	require.Equal(t, []string{"a", "c", "d"}, []string{m[0].Key, m[1].Key, m[2].Key})
}

func TestRegistry(t *testing.T) {
	var names []string
	for _, f := range formats.All() {
		names = append(names, f.Name())
	}
	require.Subset(t, names, []string{"gguf", "llama2c", "peft", "safetensors"})
	_, err := formats.ByName("onnx")
	require.ErrorContains(t, err, "gguf, llama2c, peft, safetensors")
	require.Panics(t, func() { formats.Register(formats.All()[0]) })
}

func TestElements(t *testing.T) {
	tests := []struct {
		shape []int
		n     int64
		ok    bool
	}{
		{nil, 1, true},
		{[]int{2, 3}, 6, true},
		{[]int{0, 5}, 0, true},
		{[]int{1 << 31, 0}, 0, true},
		{[]int{1 << 32, 0}, 0, false},
		{[]int{-1}, 0, false},
		{[]int{math.MaxInt64}, math.MaxInt64, true},
		{[]int{math.MaxInt64, 2}, 0, false},
		{[]int{1 << 32, 1 << 32, 4}, 0, false},
	}
	for _, tt := range tests {
		n, ok := formats.Elements(tt.shape)
		require.Equal(t, tt.ok, ok, tt.shape)
		require.Equal(t, tt.n, n, tt.shape)
	}
	_, ok := formats.CheckedSize(tensor.Q8_0, []int{16, 2})
	require.False(t, ok, "a block never crosses a row")
	n, ok := formats.CheckedSize(tensor.Q8_0, []int{2, 64})
	require.True(t, ok)
	require.EqualValues(t, 4*34, n)
}

func TestFileError(t *testing.T) {
	e := &formats.FileError{File: "m.gguf", Tensor: "a", Offset: 7, Found: "x", Want: "y", Hint: "Do z", Err: formats.ErrLayout}
	require.Equal(t, `m.gguf: "a" at byte 7: bad data layout: x; expected y. Do z`, e.Error())
	require.ErrorIs(t, e, formats.ErrLayout)
	require.Equal(t, "m.gguf", (&formats.FileError{File: "m.gguf"}).Error())
}

func TestDiagnose(t *testing.T) {
	write := func(name, content string) func(t *testing.T) string {
		return func(t *testing.T) string {
			p := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o777))
			require.NoError(t, os.WriteFile(p, []byte(content), 0o666))
			return p
		}
	}
	inDir := func(name, content string) func(t *testing.T) string {
		return func(t *testing.T) string { return filepath.Dir(write(name, content)(t)) }
	}
	data := func(elem ...string) func(t *testing.T) string {
		return func(t *testing.T) string { return testdata.Dir(t, elem...) }
	}
	zeros := string(make([]byte, 4096))
	tests := []struct {
		name    string
		path    func(t *testing.T) string
		model   error
		adapter error
		say     string
	}{
		{"missing", func(*testing.T) string { return "/nonexistent/model" }, fs.ErrNotExist, fs.ErrNotExist, "/nonexistent/model"},
		{"hub id", func(*testing.T) string { return "HuggingFaceTB/SmolLM2-135M" }, fs.ErrNotExist, fs.ErrNotExist, "Hub id"},
		{"typo", func(t *testing.T) string { return write("model.gguf", "GGUF")(t) + "f" }, fs.ErrNotExist, fs.ErrNotExist, "Did you mean model.gguf?"},
		{"empty file", write("m.gguf", ""), formats.ErrEmpty, formats.ErrEmpty, "0 bytes"},
		{"empty folder", func(t *testing.T) string { return t.TempDir() }, formats.ErrEmpty, formats.ErrEmpty, "nothing"},
		{"pointer", data("refuse", "lfs-pointer.safetensors"), formats.ErrLFSPointer, formats.ErrLFSPointer, "83946192"},
		{"pointer to a gguf", write("m.gguf", "version https://git-lfs.github.com/spec/v1\nsize 5\n"), formats.ErrLFSPointer, formats.ErrLFSPointer, "git lfs pull"},
		{"page", write("m.gguf", "\n<!DOCTYPE html>"), formats.ErrHTML, formats.ErrHTML, "direct link"},
		{"training_args.bin", data("refuse", "training_args.bin"), formats.ErrPickle, formats.ErrPickle, "safetensors"},
		{"old pickle", write("m.pt", "\x80\x02\x8a\x0a"), formats.ErrPickle, formats.ErrPickle, "safetensors"},
		{"zip", write("m.zip", "PK\x03\x04"), formats.ErrUnsupported, formats.ErrUnsupported, "Unpack"},
		{"gzip", write("m.tar.gz", "\x1f\x8b\x08"), formats.ErrUnsupported, formats.ErrUnsupported, "Unpack"},
		{"Keras", write("m.h5", "\x89HDF\r\n\x1a\n"), formats.ErrUnsupported, formats.ErrUnsupported, "HDF5"},
		{"GGML", write("m.bin", "lmgg1234"), formats.ErrUnsupported, formats.ErrUnsupported, "before GGUF"},
		{"GGJT", write("m.bin", "tjgg1234"), formats.ErrUnsupported, formats.ErrUnsupported, "before GGUF"},
		{"GGLA", write("m.bin", "algg1234"), formats.ErrUnsupported, formats.ErrUnsupported, "before GGUF"},
		{"zeros", write("m.gguf", zeros), formats.ErrTruncated, formats.ErrTruncated, "zeros"},
		{"part", write("m.gguf.part", "xxxx"), formats.ErrTruncated, formats.ErrTruncated, "broken off"},
		{"text", write("m.txt", "hello"), formats.ErrUnknownFormat, formats.ErrUnknownFormat, `"hello"`},
		{"lone config", write("config.json", "{}"), formats.ErrMissing, formats.ErrUnknownFormat, "config.json"},
		{"no config", inDir("notes.txt", "x"), formats.ErrMissing, formats.ErrUnknownFormat, "notes.txt"},
		{"folder of a gguf", inDir("m.gguf", "GGUF\x03\x00\x00\x00"+zeros[:16]), formats.ErrUnknownFormat, formats.ErrUnknownFormat, "m.gguf"},
		{"folder of llama2.c", data("models", "stories260K"), formats.ErrUnknownFormat, formats.ErrUnknownFormat, "stories260K.bin"},
		{"foreign adapter", data("adapters", "mlx-qwen2.5"), formats.ErrIsAdapter, formats.ErrUnsupported, "adapter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path(t)
			_, err := formats.OpenModel(path)
			require.ErrorIs(t, err, tt.model)
			require.ErrorContains(t, err, tt.say)
			var fe *formats.FileError
			require.True(t, errors.As(err, &fe))
			_, err = formats.OpenAdapter(path)
			require.ErrorIs(t, err, tt.adapter)
			require.True(t, errors.As(err, &fe))
			require.False(t, formats.IsAdapter(path) && tt.adapter != formats.ErrUnsupported)
		})
	}
}

func TestModelForAdapter(t *testing.T) {
	_, err := formats.OpenAdapter(testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-phi-3.gguf"))
	require.ErrorIs(t, err, formats.ErrIsModel)
	_, err = formats.OpenAdapter(testdata.Dir(t, "models", "stories260K", "stories260K.bin"))
	require.ErrorIs(t, err, formats.ErrIsModel)
}

func TestCopyPermuted(t *testing.T) {
	x := tensor.FromFloats("x", []int{3, 1}, []float32{0, 1, 2})
	x.Perm = []int32{2, 0, 1}
	out := formats.Copy([]*tensor.Tensor{x})
	var b bytes.Buffer
	require.NoError(t, formats.WriteTensor(&b, "f", &out[0]))
	got := make([]float32, 3)
	tensor.F32.Decode(got, b.Bytes())
	require.Equal(t, []float32{2, 0, 1}, got)
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

func TestWriteTensor(t *testing.T) {
	x := formats.OutTensor{Name: "x", Type: tensor.F32, Shape: []int{2}}
	x.WriteTo = func(w io.Writer) error { return json.NewEncoder(w).Encode("longer than eight bytes") }
	require.ErrorIs(t, formats.WriteTensor(io.Discard, "f", &x), formats.ErrOutput)
	x.WriteTo = func(w io.Writer) error { _, err := w.Write(make([]byte, 8)); return err }
	require.NoError(t, formats.WriteTensor(io.Discard, "f", &x))
	disk := errors.New("disk full")
	err := formats.WriteTensor(failing{disk}, "f", &x)
	require.ErrorIs(t, err, disk)
	require.ErrorContains(t, err, `f: "x"`)
}
