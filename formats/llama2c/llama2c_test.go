package llama2c

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/stretchr/testify/require"
)

func TestStories260K(t *testing.T) {
	path := testdata.Dir(t, "models", "stories260K", "stories260K.bin")
	require.Equal(t, formats.Yes, Format{}.Probe(path))
	require.Equal(t, formats.No, Format{}.Probe(filepath.Join(filepath.Dir(path), "tok512.bin")))
	m, err := formats.OpenModel(path)
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, "llama2c", m.Format)
	require.Equal(t, formats.GGUF, m.Naming)
	require.Len(t, m.Tensors, 1+9*5+1, "tied: no output.weight")
	heads, _ := m.Meta.Int("llama.attention.head_count")
	kv, _ := m.Meta.Int("llama.attention.head_count_kv")
	require.Equal(t, []int64{8, 4}, []int64{heads, kv})
	var params int64
	for _, x := range m.Tensors {
		params += x.Elements()
		v, err := x.AllFloats()
		require.NoError(t, err)
		for _, f := range v {
			require.True(t, f == f && f < 100 && f > -100, "%s holds %v", x.Name, f)
		}
	}
	require.EqualValues(t, 260032, params)
	tokens := m.Meta.Get("tokenizer.ggml.tokens").([]string)
	types := m.Meta.Get("tokenizer.ggml.token_type").([]int32)
	require.Len(t, tokens, 512)
	require.Equal(t, []string{"<unk>", "<s>", "</s>", "<0x00>"}, tokens[:4])
	require.Equal(t, []int32{unknown, control, control, byteTok}, types[:4])
	require.Equal(t, "<0xFF>", tokens[258])
	require.Contains(t, tokens, "\u2581the")
	require.Equal(t, int32(normal), types[300])
}

func TestHostile(t *testing.T) {
	path := testdata.Dir(t, "models", "stories260K", "stories260K.bin")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	tok, err := os.ReadFile(filepath.Join(filepath.Dir(path), "tok512.bin"))
	require.NoError(t, err)
	tests := []struct {
		name      string
		model     []byte
		vocab     []byte
		want      error
		wantModel bool
	}{
		{"half", data[:len(data)/2], tok, formats.ErrTruncated, true},
		{"longer", append(append([]byte(nil), data...), 0), tok, formats.ErrLayout, true},
		{"no vocabulary", data, nil, formats.ErrMissing, true},
		{"short vocabulary", data, tok[:len(tok)-3], formats.ErrTruncated, true},
		{"long vocabulary", data, append(append([]byte(nil), tok...), 1, 2, 3), formats.ErrLayout, true},
		{"new layout", append([]byte("24ka\x01\x00\x00\x00"), data...), tok, formats.ErrUnsupported, true},
		{"web page", []byte("<!DOCTYPE html><html><body>not found</body></html>"), tok, formats.ErrHTML, false},
		{"empty", nil, tok, formats.ErrEmpty, false},
		{"noise", []byte("this is no model at all, whatever its name may say"), tok, formats.ErrUnknownFormat, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "model.bin")
			require.NoError(t, os.WriteFile(p, tt.model, 0o666))
			if tt.vocab != nil {
				require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(p), "tokenizer.bin"), tt.vocab, 0o666))
			}
			_, err := formats.OpenModel(p)
			require.ErrorIs(t, err, tt.want)
			require.Contains(t, err.Error(), filepath.Dir(p))
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0})
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, c, err := parse("fuzz.bin", b)
		if err != nil {
			return
		}
		var n int64
		for _, x := range m.Tensors {
			n += int64(len(x.Data))
		}
		require.LessOrEqual(t, n, int64(len(b)))
		require.Positive(t, c.vocab)
	})
}

func FuzzVocab(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00<unk>"), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 0 || n > 1<<20 {
			return
		}
		v, err := parseVocab("fuzz.bin", b, n)
		if err == nil {
			require.Len(t, v.tokens, n)
		}
	})
}
