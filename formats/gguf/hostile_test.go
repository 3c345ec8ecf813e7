package gguf

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

// raw builds files that no writer would.
type raw struct{ b []byte }

func file(version uint32, nTensors, nKV uint64) *raw {
	r := &raw{b: []byte("GGUF")}
	return r.u32(version).u64(nTensors).u64(nKV)
}

func (r *raw) u32(v uint32) *raw { r.b = binary.LittleEndian.AppendUint32(r.b, v); return r }
func (r *raw) u64(v uint64) *raw { r.b = binary.LittleEndian.AppendUint64(r.b, v); return r }
func (r *raw) str(s string) *raw { r.u64(uint64(len(s))); r.b = append(r.b, s...); return r }
func (r *raw) raw(s string) *raw { r.b = append(r.b, s...); return r }

// kv appends a key and the type of its value.
func (r *raw) kv(key string, t uint32) *raw { return r.str(key).u32(t) }

// info appends a tensor description.
func (r *raw) info(name string, dims []uint64, t uint32, offset uint64) *raw {
	r.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		r.u64(d)
	}
	return r.u32(t).u64(offset)
}

// data pads the header and appends n zeros.
func (r *raw) data(n int) *raw {
	r.b = append(r.b, make([]byte, int(pad(uint64(len(r.b)), 32))-len(r.b)+n)...)
	return r
}

func dims(d ...uint64) []uint64 { return d }

// TestHostile has a case for every rule of the reader; those with a CVE or an
// issue number are named after the bug of another reader that they would trigger.
func TestHostile(t *testing.T) {
	const f32, q8 = 0, 8
	big := strings.Repeat("n", 64)
	tests := []struct {
		name string
		file *raw
		want error
		say  string // part of the message
	}{
		{"empty", &raw{}, formats.ErrEmpty, "0 bytes"},
		{"other magic", (&raw{}).raw("GGUE").u32(3).u64(0).u64(0), formats.ErrHeader, "GGUE"},
		{"reversed magic", (&raw{}).raw("FUGG").u32(3).u64(0).u64(0), formats.ErrUnsupported, "reverse byte order"},
		{"magic alone", (&raw{}).raw("GGUF"), formats.ErrTruncated, "version"},
		{"version 0", file(0, 0, 0), formats.ErrUnsupported, "version 0"},
		{"version 1", file(1, 0, 0), formats.ErrUnsupported, "version 1"},
		{"version 4", file(4, 0, 0), formats.ErrUnsupported, "version 4"},
		{"big-endian", file(3<<24, 0, 0), formats.ErrUnsupported, "big-endian"},
		{"negative number of tensors", file(3, math.MaxUint64, 0), formats.ErrLimit, "tensors"},
		{"negative number of entries", file(3, 0, math.MaxUint64), formats.ErrLimit, "metadata entries"},
		{"CVE-2024-21836: more tensors than bytes", file(3, 1<<40, 0).data(64), formats.ErrLimit, "tensors"},
		{"CVE-2024-23605: more entries than bytes", file(3, 0, 1<<40).data(64), formats.ErrLimit, "metadata entries"},
		{"no entries where one is promised", file(3, 0, 1), formats.ErrLimit, "1 metadata entries"},

		{"empty key", file(3, 0, 1).kv("", typeUint32).u32(1).data(0), formats.ErrHeader, "empty metadata key"},
		{"repeated key", file(3, 0, 2).kv("k", typeUint32).u32(1).kv("k", typeUint32).u32(1), formats.ErrDuplicate, `"k"`},
		{"value type 13", file(3, 0, 1).kv("k", 13).u64(1), formats.ErrType, "value type 13"},
		{"value type huge", file(3, 0, 1).kv("k", math.MaxUint32).u64(1), formats.ErrType, "value type 4294967295"},
		{"CVE-2024-23496: key of 2^64-1 bytes", file(3, 0, 1).u64(math.MaxUint64).u64(0).u64(0), formats.ErrLimit, "metadata key"},
		{"key longer than the file", file(3, 0, 1).u64(1 << 20).u64(0).u64(0), formats.ErrTruncated, "metadata key"},
		{"string of 2^30+1 bytes", file(3, 0, 1).kv("k", typeString).u64(1<<30 + 1), formats.ErrLimit, "string"},
		{"string longer than the file", file(3, 0, 1).kv("k", typeString).u64(1 << 29), formats.ErrTruncated, "string"},
		{"value cut off", file(3, 0, 1).kv("key", typeUint64).u32(1), formats.ErrTruncated, "u64"},
		{"nested array", file(3, 0, 1).kv("k", typeArray).u32(typeArray).u64(1).u32(typeUint8).u64(0), formats.ErrUnsupported, "array of arrays"},
		{"array of type 13", file(3, 0, 1).kv("k", typeArray).u32(13).u64(1), formats.ErrType, "value type 13"},
		{"#25378: array of 2^63 in 43 bytes", file(3, 0, 1).kv("k", typeArray).u32(typeUint8).u64(1 << 63), formats.ErrLimit, "array"},
		{"CVE-2024-21825: array longer than the file", file(3, 0, 1).kv("k", typeArray).u32(typeUint64).u64(1 << 28).u64(0), formats.ErrTruncated, "array of 268435456"},
		{"array of strings longer than the file", file(3, 0, 1).kv("k", typeArray).u32(typeString).u64(100).u64(0), formats.ErrTruncated, "100 elements"},
		{"array with a string too long", file(3, 0, 1).kv("k", typeArray).u32(typeString).u64(2).str("a").u64(1 << 40), formats.ErrLimit, "string"},

		{"alignment 0", file(3, 0, 1).kv(alignmentKey, typeUint32).u32(0), formats.ErrHeader, alignmentKey},
		{"alignment 48", file(3, 0, 1).kv(alignmentKey, typeUint32).u32(48), formats.ErrHeader, "48"},
		{"PR #24997: alignment 2^31", file(3, 0, 1).kv(alignmentKey, typeUint32).u32(1 << 31), formats.ErrHeader, "2147483648"},
		{"PR #26690: alignment of another type", file(3, 0, 1).kv(alignmentKey, typeUint64).u64(32), formats.ErrType, "uint64"},

		{"name of 64 bytes", file(3, 1, 0).info(big, dims(1), f32, 0).data(32), formats.ErrLimit, "64 bytes"},
		{"repeated tensor", file(3, 2, 0).info("a", dims(1), f32, 0).info("a", dims(1), f32, 32).data(64), formats.ErrDuplicate, `"a"`},
		{"five dimensions", file(3, 1, 0).info("a", dims(1, 1, 1, 1, 1), f32, 0).data(32), formats.ErrLimit, "5 dimensions"},
		{"#25378: 2^32-1 dimensions", file(3, 1, 0).str("a").u32(math.MaxUint32).data(32), formats.ErrLimit, "4294967295 dimensions"},
		{"negative dimension", file(3, 1, 0).info("a", dims(math.MaxUint64), f32, 0).data(32), formats.ErrShape, "dimension -1"},
		{"CVE-2024-21802: product of 2^64", file(3, 1, 0).info("a", dims(1<<32, 1<<32), f32, 0).data(32), formats.ErrOverflow, "shape"},
		{"product of 2^66 with a wrap to 4", file(3, 1, 0).info("a", dims(1<<33, 1<<33, 4), f32, 0).data(32), formats.ErrOverflow, "shape"},
		{"CVE-2026-33298: size of 2^62 elements", file(3, 1, 0).info("a", dims(1<<62), f32, 0).data(32), formats.ErrOverflow, "shape"},
		{"GGML_PAD wraps", file(3, 1, 0).info("a", dims(4, 1<<30-1, 1<<30+1), f32, 0).data(32), formats.ErrOverflow, "shape"},
		{"CVE-2026-27940: sum of sizes wraps", file(3, 2, 0).info("a", dims(1<<42), f32, 0).info("b", dims(1<<60), f32, 1<<44).data(32), formats.ErrTruncated, `"a"`},
		{"nothing with 2^62 rows", file(3, 1, 0).info("a", dims(0, 1<<62), f32, 0).data(32), formats.ErrOverflow, "shape"},
		{"type 4, removed", file(3, 1, 0).info("a", dims(32), 4, 0).data(64), formats.ErrType, "tensor type 4"},
		{"type 43", file(3, 1, 0).info("a", dims(32), 43, 0).data(64), formats.ErrType, "tensor type 43"},
		{"type 2^32-1", file(3, 1, 0).info("a", dims(32), math.MaxUint32, 0).data(64), formats.ErrType, "tensor type 4294967295"},
		{"half a block", file(3, 1, 0).info("a", dims(48), q8, 0).data(64), formats.ErrShape, "multiple of 32"},
		{"block across rows", file(3, 1, 0).info("a", dims(16, 2), q8, 0).data(64), formats.ErrShape, "multiple of 32"},
		{"scalar of blocks", file(3, 1, 0).info("a", nil, q8, 0).data(64), formats.ErrShape, "multiple of 32"},
		{"first offset not 0", file(3, 1, 0).info("a", dims(1), f32, 32).data(64), formats.ErrLayout, "offset 32"},
		{"overlap", file(3, 2, 0).info("a", dims(16), f32, 0).info("b", dims(1), f32, 32).data(96), formats.ErrLayout, `"b"`},
		{"hole", file(3, 2, 0).info("a", dims(1), f32, 0).info("b", dims(1), f32, 64).data(96), formats.ErrLayout, `"b"`},
		{"offset 2^64-32", file(3, 2, 0).info("a", dims(1), f32, 0).info("b", dims(1), f32, math.MaxUint64-31).data(96), formats.ErrLayout, `"b"`},
		{"CVE-2026-7482: data beyond the end", file(3, 1, 0).info("a", dims(100), f32, 0).data(32), formats.ErrTruncated, "download"},
		{"description cut off", file(3, 1, 0).str("abcdefgh").u32(2).u64(1), formats.ErrTruncated, `"abcdefgh"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("model.gguf", tt.file.b)
			require.ErrorIs(t, err, tt.want)
			var fe *formats.FileError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, "model.gguf", fe.File)
			require.Contains(t, err.Error(), tt.say)
		})
	}
}

// TestAccepted has what looks odd and is legal.
func TestAccepted(t *testing.T) {
	const f32 = 0
	tests := []struct {
		name string
		file *raw
		n    int
	}{
		{"nothing at all", file(3, 0, 0), 0},
		{"version 2", file(2, 1, 0).info("a", dims(1), f32, 0).data(4), 1},
		{"last padding missing", file(3, 2, 0).info("a", dims(1), f32, 0).info("b", dims(1), f32, 32).data(36), 2},
		{"name of 63 bytes", file(3, 1, 0).info(strings.Repeat("n", 63), dims(1), f32, 0).data(32), 1},
		{"empty tensor", file(3, 2, 0).info("a", dims(0), f32, 0).info("b", dims(1), f32, 0).data(32), 2},
		{"scalar", file(3, 1, 0).info("a", nil, f32, 0).data(32), 1},
		{"bool of 2", file(3, 0, 1).kv("k", typeBool).raw("\x02"), 0},
		{"alignment 8", file(3, 1, 1).kv(alignmentKey, typeUint32).u32(8).info("a", dims(1), f32, 0).data(8), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("model.gguf", tt.file.b)
			require.NoError(t, err)
			require.Len(t, f.Tensors, tt.n)
		})
	}
}

func FuzzParse(f *testing.F) {
	var b bytes.Buffer
	if err := Write(context.Background(), &b, "seed", everyType(), []formats.OutTensor{
		formattest.Tensor("a", tensor.F32, 2, 3), formattest.Tensor("b", tensor.Q4_0, 2, 32),
	}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(file(3, 1, 1).kv(alignmentKey, typeUint32).u32(8).info("a", dims(0, 1<<20), 0, 0).data(8).b)
	f.Add(file(2, 2, 0).info("a", dims(1), 0, 0).info("b", dims(1), 0, 32).data(36).b)
	f.Add(file(3, 0, 1).kv("k", typeArray).u32(typeString).u64(2).str("a").str("b").b)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := formattest.Allocated()
		g, err := Parse("fuzz.gguf", b)
		if n := formattest.Allocated() - before; n > uint64(1<<20+64*len(b)) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(b))
		}
		if err != nil {
			return
		}
		// What parses can be written, and then reads back the same.
		var again bytes.Buffer
		if err := Write(context.Background(), &again, "again", g.Meta, formats.Copy(g.Tensors)); err != nil {
			for _, x := range g.Tensors {
				if x.Name == "" {
					return // readable, but nobody should write it
				}
			}
			t.Fatal(err)
		}
		h, err := Parse("again.gguf", again.Bytes())
		require.NoError(t, err)
		require.Len(t, h.Meta, len(g.Meta))
		require.Len(t, h.Tensors, len(g.Tensors))
		for i := range g.Tensors {
			require.Equal(t, g.Tensors[i].Shape, h.Tensors[i].Shape)
			require.True(t, bytes.Equal(g.Tensors[i].Data, h.Tensors[i].Data))
		}
	})
}

// Counts that no model has are refused before their entries are kept.
func TestHostileMemory(t *testing.T) {
	keys, tensors := file(3, 0, 600_000), file(3, 300_000, 0)
	for i := range 600_000 {
		keys.kv(fmt.Sprintf("%06x", i), typeUint8).raw("\x00")
	}
	for i := range 300_000 {
		tensors.info(fmt.Sprintf("%06x", i), nil, 0, 0)
	}
	for name, f := range map[string]*raw{"metadata": keys, "tensors": tensors} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := Parse("x", f.b)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, formats.ErrLimit)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
		})
	}
}
