package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
)

type goldenCase struct {
	Text, Decoded, All   string
	IDs, Special, Random []int32
}

// readGolden reads what testdata/golden.py wrote.
func readGolden(t testing.TB, path string) (folder string, cases []goldenCase) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	var g struct {
		Folder string
		Cases  []goldenCase
	}
	require.NoError(t, json.Unmarshal(b, &g))
	return g.Folder, g.Cases
}

func checkGolden(t *testing.T, tok *Tokenizer, cases []goldenCase) {
	t.Helper()
	for _, c := range cases {
		ids := c.Random
		if ids == nil {
			ids = c.IDs
			require.Equal(t, c.IDs, tok.Encode(c.Text, false), "%q", c.Text)
			require.Equal(t, c.Special, tok.Encode(c.Text, true), "%q", c.Text)
		}
		require.Equal(t, c.Decoded, tok.Decode(ids), "%q %v", c.Text, ids)
		require.Equal(t, c.All, tok.DecodeAll(ids), "%q %v", c.Text, ids)
	}
}

// readFolder reads the side files of a Hugging Face folder; only limits them
// to some.
func readFolder(t testing.TB, dir string, only ...string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	if only == nil {
		only = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json", "chat_template.jinja"}
	}
	for _, n := range only {
		if b, err := os.ReadFile(filepath.Join(dir, n)); err == nil {
			files[n] = b
		}
	}
	return files
}

// testdata/*.json hold the ids that Hugging Face's tokenizers library gives.
func TestHuggingFace(t *testing.T) {
	for _, name := range []string{"smollm", "gpt2", "roberta", "bert", "minilm", "t5"} {
		t.Run(name, func(t *testing.T) {
			_, cases := readGolden(t, filepath.Join("testdata", name+".json"))
			tok, err := FromFiles(readFolder(t, testdata.Dir(t, "tokenizers", name), "tokenizer.json"))
			require.NoError(t, err)
			checkGolden(t, tok, cases)
		})
	}
}
