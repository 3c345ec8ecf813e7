package tokenizer

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
)

// The vocabularies and expected ids of llama.cpp's own tokenizer tests.
func TestLlamaCppVocabs(t *testing.T) {
	for _, name := range []string{"gpt-2", "llama-spm", "phi-3", "bert-bge"} {
		t.Run(name, func(t *testing.T) {
			path := testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-"+name+".gguf")
			tok, err := FromGGUF(readMeta(t, path))
			require.NoError(t, err)
			in, err := os.ReadFile(path + ".inp")
			require.NoError(t, err)
			out, err := os.ReadFile(path + ".out")
			require.NoError(t, err)
			texts := strings.Split(string(in), "\n__ggml_vocab_test__\n")
			lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			checked := 0
			for i, line := range lines {
				var want []int32
				for _, f := range strings.Fields(line) {
					id, err := strconv.Atoi(f)
					require.NoError(t, err)
					want = append(want, int32(id))
				}
				got := tok.Encode(texts[i], false)
				if len(want) == 0 {
					require.Empty(t, got)
				} else {
					require.Equal(t, want, got, "%q", texts[i])
				}
				if name == "gpt-2" { // byte-level BPE loses nothing
					require.Equal(t, texts[i], tok.DecodeAll(got))
				}
				checked++
			}
			require.Greater(t, checked, 40)
		})
	}
}
