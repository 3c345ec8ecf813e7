package tokenizer

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
)

// readMeta reads the metadata of a GGUF file, so that these tests need no
// format package.
func readMeta(t testing.TB, path string) formats.Meta {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, min(st.Size(), 16<<20))
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	require.Equal(t, "GGUF", string(b[:4]))
	n := binary.LittleEndian.Uint64(b[16:])
	b = b[24:]
	var meta formats.Meta
	u32 := func() uint32 { v := binary.LittleEndian.Uint32(b); b = b[4:]; return v }
	u64 := func() uint64 { v := binary.LittleEndian.Uint64(b); b = b[8:]; return v }
	str := func() string { k := u64(); s := string(b[:k]); b = b[k:]; return s }
	value := func(typ uint32) any {
		switch typ {
		case 4:
			return u32()
		case 5:
			return int32(u32())
		case 6:
			return math.Float32frombits(u32())
		case 7:
			v := b[0] != 0
			b = b[1:]
			return v
		case 8:
			return str()
		case 9:
			et, k := u32(), u64()
			switch et {
			case 8:
				out := make([]string, k)
				for i := range out {
					out[i] = str()
				}
				return out
			case 6:
				out := make([]float32, k)
				for i := range out {
					out[i] = math.Float32frombits(u32())
				}
				return out
			case 5:
				out := make([]int32, k)
				for i := range out {
					out[i] = int32(u32())
				}
				return out
			}
		}
		t.Fatalf("metadata of type %d", typ)
		return nil
	}
	for range n {
		k := str()
		meta = append(meta, formats.KV{Key: k, Value: value(u32())})
	}
	return meta
}
