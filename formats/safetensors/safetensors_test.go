package safetensors

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

// build puts a length before a header, and n bytes of data after it.
func build(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	return append(b, make([]byte, n)...)
}

// one is the header of a single tensor.
func one(dtype, shape, offsets string) string {
	return fmt.Sprintf(`{"a":{"dtype":%q,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
}

// two is the header of two tensors of four F32 with the given offsets.
func two(a, b string) string {
	return fmt.Sprintf(`{"a":{"dtype":"F32","shape":[4],"data_offsets":%s},"b":{"dtype":"F32","shape":[4],"data_offsets":%s}}`, a, b)
}

func TestHostile(t *testing.T) {
	tests := []struct {
		name string
		file []byte
		want error
		say  string
	}{
		{"empty", nil, formats.ErrEmpty, "0 bytes"},
		{"seven bytes", []byte("1234567"), formats.ErrTruncated, "7 bytes"},
		{"Git LFS pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"), formats.ErrLFSPointer, "12345"},
		{"web page", []byte("<!doctype html><html>404</html>"), formats.ErrHTML, "web page"},
		{"pickle", append([]byte("PK\x03\x04"), make([]byte, 100)...), formats.ErrPickle, "safetensors"},
		{"zeros", make([]byte, 4096), formats.ErrTruncated, "zeros"},
		{"no header", build("[]      ", 0), formats.ErrHeader, "JSON header"},
		{"header of 2^63", append([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), "{}"...), formats.ErrLimit, "header"},
		{"header over the limit", append(binary.LittleEndian.AppendUint64(nil, MaxHeader+1), "{}"...), formats.ErrLimit, "100000000"},
		{"header longer than the file", append(binary.LittleEndian.AppendUint64(nil, 4096), "{}"...), formats.ErrTruncated, "download"},
		{"half download", build(one("F32", "[4]", "[0,16]"), 8), formats.ErrTruncated, `"a"`},
		{"trailing bytes", build(one("F32", "[4]", "[0,16]"), 17), formats.ErrLayout, "1 bytes after"},
		{"data without tensors", build("{}", 4), formats.ErrLayout, "4 bytes after"},
		{"not UTF-8", build("{\"\xff\":1}", 0), formats.ErrHeader, "UTF-8"},
		{"not closed", build(`{"a":{"dtype":"F32"`, 0), formats.ErrHeader, "end of the header"},
		{"text after", build(`{}x`, 0), formats.ErrHeader, "after the header"},
		{"repeated tensor", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), formats.ErrDuplicate, `"a"`},
		{"repeated by an escape", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), formats.ErrDuplicate, `"a"`},
		{"repeated member", build(`{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}`, 4), formats.ErrDuplicate, "dtype"},
		{"repeated metadata", build(`{"__metadata__":{"k":"v","k":"w"}}`, 0), formats.ErrDuplicate, `"k"`},
		{"metadata number", build(`{"__metadata__":{"k":1}}`, 0), formats.ErrHeader, "a string"},
		{"unknown member", build(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4), formats.ErrHeader, `"x"`},
		{"no shape", build(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), formats.ErrHeader, "without shape"},
		{"unknown type", build(one("F33", "[1]", "[0,4]"), 4), formats.ErrType, "F33"},
		{"unsupported type", build(one("F8_E8M0", "[4]", "[0,4]"), 4), formats.ErrUnsupported, "F8_E8M0"},
		{"negative dimension", build(one("F32", "[-1]", "[0,4]"), 4), formats.ErrHeader, "non-negative"},
		{"fraction", build(one("F32", "[1.0]", "[0,4]"), 4), formats.ErrHeader, ", or ]"},
		{"leading zero", build(one("F32", "[01]", "[0,4]"), 4), formats.ErrHeader, "non-negative"},
		{"number over 2^63", build(one("F32", "[9223372036854775808]", "[0,4]"), 4), formats.ErrOverflow, "2^63"},
		{"product over 2^63", build(one("F32", "[4294967296,4294967296]", "[0,4]"), 4), formats.ErrOverflow, "shape"},
		{"size over 2^63", build(one("F32", "[4611686018427387904]", "[0,4]"), 4), formats.ErrOverflow, "size"},
		{"nothing of huge rows", build(one("F32", "[4611686018427387904,0]", "[0,0]"), 0), formats.ErrOverflow, "shape"},
		{"shape and bytes differ", build(one("F32", "[3]", "[0,16]"), 16), formats.ErrShape, "16 bytes"},
		{"three offsets", build(one("F32", "[4]", "[0,16,16]"), 16), formats.ErrHeader, "3 data_offsets"},
		{"end before begin", build(one("F32", "[4]", "[16,0]"), 16), formats.ErrLayout, "from 16 to 0"},
		{"hole at the start", build(one("F32", "[4]", "[4,20]"), 20), formats.ErrLayout, "hole"},
		{"hole between", build(two("[0,16]", "[20,36]"), 36), formats.ErrLayout, "hole"},
		{"overlap", build(two("[0,16]", "[12,28]"), 28), formats.ErrLayout, "overlaps"},
		{"same data twice", build(two("[0,16]", "[0,16]"), 16), formats.ErrLayout, "overlaps"},
		{"control character", build("{\"a\nb\":{}}", 0), formats.ErrHeader, "control"},
		{"bad escape", build(`{"\x":{}}`, 0), formats.ErrHeader, "escape"},
		{"half a surrogate", build(`{"\ud800":{}}`, 0), formats.ErrHeader, "escape"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("m.safetensors", tt.file)
			require.ErrorIs(t, err, tt.want)
			require.Contains(t, err.Error(), tt.say)
			require.True(t, strings.HasPrefix(err.Error(), "m.safetensors"), err.Error())
		})
	}
}

func TestAccepted(t *testing.T) {
	f, err := Parse("m", build(`{ "b" : {"data_offsets":[4,8],"dtype":"F32","shape":[]} , "\ud83d\ude00\n": {"dtype":"I8","shape":[2,2],"data_offsets":[0,4]} , "none":{"dtype":"F16","shape":[0,3],"data_offsets":[4,4]}, "__metadata__": null }  `, 8))
	require.NoError(t, err)
	require.Nil(t, f.Metadata)
	var names []string
	for _, x := range f.Tensors {
		names = append(names, x.Name)
	}
	require.Equal(t, []string{"\U0001F600\n", "none", "b"}, names, "in the order of the data")
	require.NotNil(t, f.Tensor("b"))
	require.Nil(t, f.Tensor("c"))
	require.NoError(t, f.Close())
}

// TestLayout pins the bytes that the Rust crate writes for the same tensors.
func TestLayout(t *testing.T) {
	out := []formats.OutTensor{
		formattest.Tensor("z", tensor.F16, 2), formattest.Tensor("b", tensor.F32, 1), formattest.Tensor("a", tensor.F32), formattest.Tensor("i", tensor.I64, 1),
	}
	var b bytes.Buffer
	require.NoError(t, Write(context.Background(), &b, "m", out, map[string]string{"format": "pt"}))
	head := `{"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},` +
		`"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},"z":{"dtype":"F16","shape":[2],"data_offsets":[16,20]}}`
	head += strings.Repeat(" ", (8-len(head)%8)%8)
	want := append(build(head, 0), 0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x30)
	require.Equal(t, string(want), b.String())
}

func TestWriteRefuses(t *testing.T) {
	for name, x := range map[string]formats.OutTensor{
		"quantised": formattest.Tensor("q", tensor.Q8_0, 32),
		"reserved":  formattest.Tensor("__metadata__", tensor.F32, 1),
		"overflow":  {Name: "x", Type: tensor.F32, Shape: []int{1 << 40, 1 << 40}},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, Write(context.Background(), &bytes.Buffer{}, "m", []formats.OutTensor{x}, nil), formats.ErrOutput)
		})
	}
}

// TestRealFiles rewrites files of other writers: those of the Rust crate come
// out byte for byte.
func TestRealFiles(t *testing.T) {
	for _, name := range []string{"smollm-medical", "t5-small-summary", "gpt2-classification", "opt-125m-bf16"} {
		t.Run(name, func(t *testing.T) {
			path := testdata.Dir(t, "adapters", name, "adapter_model.safetensors")
			f, err := Open(path)
			require.NoError(t, err)
			defer f.Close()
			require.Equal(t, map[string]string{"format": "pt"}, f.Metadata)
			again := filepath.Join(t.TempDir(), "m.safetensors")
			require.NoError(t, WriteFile(context.Background(), again, nil, formats.Copy(f.Tensors), f.Metadata))
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			got, err := os.ReadFile(again)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
	_, err := Open(testdata.Dir(t, "refuse", "lfs-pointer.safetensors"))
	require.ErrorIs(t, err, formats.ErrLFSPointer)
}

func FuzzParse(f *testing.F) {
	f.Add(build(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[],"data_offsets":[16,18]}}`, 18))
	f.Add(build(`{"\u00e9\ud83d\ude00":{"dtype":"BOOL","shape":[0],"data_offsets":[0,0]}}   `, 0))
	f.Add(build(two("[0,16]", "[16,32]"), 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := formattest.Allocated()
		g, err := Parse("fuzz", b)
		if n := formattest.Allocated() - before; n > uint64(1<<20+64*len(b)) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(b))
		}
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Write(context.Background(), &again, "again", formats.Copy(g.Tensors), g.Metadata); err != nil {
			require.NotNil(t, g.Tensor(""), "%v", err)
			return
		}
		h, err := Parse("again", again.Bytes())
		require.NoError(t, err)
		require.Equal(t, len(g.Metadata), len(h.Metadata))
		for _, x := range g.Tensors {
			require.True(t, bytes.Equal(x.Data, h.Tensor(x.Name).Data))
		}
	})
}
