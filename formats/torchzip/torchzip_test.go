package torchzip_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	"github.com/peftkit/peftkit/formats/torchzip"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
)

func written(t testing.TB) []byte {
	var b bytes.Buffer
	one := formattest.Tensor("a.weight", tensor.F32, 2, 3)
	two := formattest.Tensor("b.weight", tensor.BF16, 5)
	again := one
	again.Name = "c.weight"
	require.NoError(t, torchzip.Write(context.Background(), &b, "x.bin", []torchzip.Out{{OutTensor: one}, {OutTensor: two}, {OutTensor: again, SameAs: "a.weight"}}))
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	data := written(t)
	require.Equal(t, data, written(t), "the same tensors give the same bytes")
	f, err := torchzip.Parse("x.bin", data)
	require.NoError(t, err)
	require.Len(t, f.Tensors, 3)
	require.Equal(t, "a.weight", f.Tensors[0].Name)
	require.Equal(t, []int{2, 3}, f.Tensors[0].Shape)
	require.Same(t, tensor.BF16, f.Tensors[1].Type)
	require.Equal(t, f.Tensors[0].Data, f.Tensors[2].Data)
	require.Equal(t, f.Tensors[0].Offset, f.Tensors[2].Offset, "one storage")
	for _, x := range f.Tensors {
		require.Equal(t, x.Data, data[x.Offset:x.Offset+int64(len(x.Data))])
	}
}

func TestWriteRefuses(t *testing.T) {
	one := formattest.Tensor("a", tensor.F32, 2)
	for _, list := range [][]torchzip.Out{
		{{OutTensor: one}, {OutTensor: one}},
		{{OutTensor: one, SameAs: "b"}},
		{{OutTensor: one}, {OutTensor: formattest.Tensor("b", tensor.F32, 3), SameAs: "a"}},
		{{OutTensor: formattest.Tensor("q", tensor.Q8_0, 32)}},
	} {
		require.ErrorIs(t, torchzip.Write(context.Background(), &bytes.Buffer{}, "x.bin", list), formats.ErrOutput)
	}
}

func TestReal(t *testing.T) {
	f, err := torchzip.Open(filepath.Join(testdata.Dir(t, "adapters", "loralib-roberta-mnli"), "roberta_base_lora_mnli.bin"))
	require.NoError(t, err)
	require.NotEmpty(t, f.Tensors)
	names := map[string]bool{}
	for _, x := range f.Tensors {
		names[x.Name] = true
	}
	require.True(t, names["roberta.encoder.layer.0.attention.self.query.lora_A"], f.Tensors[0].Name)
	require.NoError(t, f.Close())
}

func TestRefusesCode(t *testing.T) {
	_, err := torchzip.Open(filepath.Join(testdata.Dir(t, "refuse"), "training_args.bin"))
	require.ErrorIs(t, err, formats.ErrPickle)
	require.ErrorContains(t, err, "the global")
	_, err = torchzip.Open(filepath.Join(testdata.Dir(t, "refuse"), "lfs-pointer.safetensors"))
	require.ErrorIs(t, err, formats.ErrLFSPointer)
}

// archive packs a pickle and storages.
func archive(t testing.TB, program string, files map[string]string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name, content string) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		require.NoError(t, err)
		_, err = w.Write([]byte(content))
		require.NoError(t, err)
	}
	add("data.pkl", program)
	for name, content := range files {
		add(name, content)
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

// tensorOf is a pickle of {"w": tensor} with a storage of count floats.
func tensorOf(count, offset byte, shape, stride string) string {
	return "\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK" +
		string([]byte{count}) + "tQK" + string([]byte{offset}) + "(" + shape + "t(" + stride + "t\x89ccollections\nOrderedDict\n)RtRs."
}

func TestViews(t *testing.T) {
	four := map[string]string{"data/0": strings.Repeat("\x00\x00\x80\x3f", 3) + "\x00\x00\x00\x40"}
	f, err := torchzip.Parse("x", archive(t, tensorOf(4, 0, "K\x02K\x02", "K\x01K\x02"), four))
	require.NoError(t, err)
	v, err := f.Tensors[0].AllFloats()
	require.NoError(t, err)
	require.Equal(t, []float32{1, 1, 1, 2}, v, "a transposed matrix")
	for name, program := range map[string]string{
		"behind the storage": tensorOf(4, 1, "K\x02K\x02", "K\x02K\x01"),
		"repeated":           tensorOf(4, 0, "K\x08", "K\x00"),
		"negative":           tensorOf(4, 0, "J\xff\xff\xff\xff", "K\x01"),
		"huge":               tensorOf(4, 0, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\x01"),
		"empty":              tensorOf(4, 0, "K\x00", "K\x01"),
		"short storage":      tensorOf(9, 0, "K\x09", "K\x01"),
		"code":               "\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.",
		"builds objects":     "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",
		"no dictionary":      "\x80\x02K\x01.",
		"no tensor":          "\x80\x02}X\x01\x00\x00\x00wK\x01s.",
		"endless":            "\x80\x02}" + strings.Repeat("(", 5000),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := torchzip.Parse("x", archive(t, program, four))
			var fe *formats.FileError
			require.ErrorAs(t, err, &fe)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(written(f))
	f.Add(archive(f, tensorOf(4, 0, "K\x02K\x02", "K\x01K\x02"), map[string]string{"data/0": strings.Repeat("x", 16)}))
	f.Fuzz(func(t *testing.T, data []byte) { check(t, data) })
}

// FuzzPickle reaches the instructions without the checksum of a zip before them.
func FuzzPickle(f *testing.F) {
	f.Add(tensorOf(4, 0, "K\x02K\x02", "K\x01K\x02"))
	f.Add("\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01aK\x01u.")
	f.Add("\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.")
	f.Fuzz(func(t *testing.T, program string) {
		check(t, archive(t, program, map[string]string{"data/0": strings.Repeat("x", 16)}))
	})
}

func check(t *testing.T, data []byte) {
	file, err := torchzip.Parse("x", data)
	if err != nil {
		return
	}
	for _, x := range file.Tensors {
		require.Equal(t, x.Elements()*int64(x.Type.Bytes), int64(len(x.Data)))
	}
}

func TestOpenMissing(t *testing.T) {
	_, err := torchzip.Open(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A small file that asks for much is refused before it got it.
func TestHostileMemory(t *testing.T) {
	const n = 3_000_000
	entries := map[string]string{}
	for i := range 100_000 {
		entries[fmt.Sprint("data/", i)] = ""
	}
	tests := []struct {
		name, program string
		files         map[string]string
	}{
		{"items of a list", "\x80\x02]" + strings.Repeat("K\x01a", n) + ".", nil},
		{"items of a list at once", "\x80\x02](" + strings.Repeat("K\x01", n) + "e.", nil},
		{"large numbers", "\x80\x02(" + strings.Repeat("J\xff\xff\xff\x7f", n) + "t.", nil},
		{"lists", "\x80\x02(" + strings.Repeat("]", n) + "t.", nil},
		{"dictionaries", "\x80\x02(" + strings.Repeat("}", n) + "t.", nil},
		{"lists in lists", "\x80\x02" + strings.Repeat("]", n) + strings.Repeat("a", n-1) + ".", nil},
		{"tuples", "\x80\x02N" + strings.Repeat("\x85", n) + ".", nil},
		{"memo", "\x80\x04N" + strings.Repeat("\x94", n) + ".", nil},
		{"marks", "\x80\x02" + strings.Repeat("(", n) + ".", nil},
		{"entries of a dictionary", "\x80\x02}(" + strings.Repeat("K\x01N", n) + "u.", nil},
		{"one value again and again", "\x80\x02]q\x00(" + strings.Repeat("h\x00", n) + "e.", nil},
		{"texts", "\x80\x02(" + strings.Repeat("X\x00\x01\x00\x00"+strings.Repeat("x", 256), n/100) + "t.", nil},
		{"a long text", "\x80\x02X\x00\x00\x00\x02" + strings.Repeat("x", 2<<24) + ".", nil},
		{"files", "\x80\x02}.", entries},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := archive(t, tt.program, tt.files)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := torchzip.Parse("x", data)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, formats.ErrLimit)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
		})
	}
}
