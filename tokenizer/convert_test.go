package tokenizer

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
)

// A tokenizer.json written as GGUF entries and read again gives the same ids and
// roles.
func TestFilesToGGUF(t *testing.T) {
	for _, c := range []struct{ name, pre string }{{"smollm", "smollm"}, {"gpt2", "gpt-2"}, {"roberta", "roberta-bpe"}, {"bert", "bert-bge"}, {"minilm", "bert-bge"}, {"t5", "default"}} {
		t.Run(c.name, func(t *testing.T) {
			_, cases := readGolden(t, filepath.Join("testdata", c.name+".json"))
			tok, err := FromFiles(readFolder(t, testdata.Dir(t, "tokenizers", c.name)))
			require.NoError(t, err)
			kv, err := tok.GGUF(tok.Size() + 3)
			require.NoError(t, err)
			meta := formats.Meta(kv)
			require.Equal(t, c.pre, meta.Str("tokenizer.ggml.pre"))
			require.Len(t, meta.Get("tokenizer.ggml.tokens"), tok.Size()+3)
			back, err := FromGGUF(meta)
			require.NoError(t, err)
			if c.name != "roberta" { // its <mask> swallows a space, which GGUF cannot say
				for _, g := range cases {
					// SentencePiece and the tokenizers library differ on marks.
					if g.Random == nil && !(c.name == "t5" && strings.ContainsFunc(g.Text, extends)) {
						require.Equal(t, g.IDs, back.Encode(g.Text, false), "%q", g.Text)
						require.Equal(t, g.Decoded, back.Decode(g.IDs))
					}
				}
			}
			require.Equal(t, tok.special, back.special)
			require.Equal(t, tok.EOGs(), back.EOGs())
			require.Equal(t, tok.ChatTemplate(), back.ChatTemplate())
			require.Equal(t, tok.Encode("x", true), back.Encode("x", true))
			again, err := back.GGUF(0)
			require.NoError(t, err)
			require.Equal(t, kv, again)
			_, err = tok.GGUF(tok.Size() - 1)
			require.Error(t, err)
		})
	}
}

// GGUF entries written as Hugging Face files and read again give the same ids.
func TestGGUFToFiles(t *testing.T) {
	_, cases := readGolden(t, "testdata/gpt2.json")
	for _, name := range []string{"gpt-2", "llama-spm", "phi-3", "bert-bge"} {
		t.Run(name, func(t *testing.T) {
			meta := readMeta(t, testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-"+name+".gguf"))
			tok, err := FromGGUF(meta)
			require.NoError(t, err)
			files, err := tok.HF()
			require.NoError(t, err)
			back, err := FromFiles(files)
			require.NoError(t, err)
			require.Empty(t, back.Warnings())
			for _, c := range cases {
				ids := tok.Encode(c.Text, true)
				require.Equal(t, ids, back.Encode(c.Text, true), "%q", c.Text)
				require.Equal(t, tok.Decode(ids), back.Decode(ids))
				require.Equal(t, tok.DecodeAll(ids), back.DecodeAll(ids))
			}
			require.Equal(t, tok.special, back.special)
			require.Equal(t, tok.EOGs(), back.EOGs())
			require.Equal(t, tok.ChatTemplate(), back.ChatTemplate())

			// And on to GGUF: other scores, the same ids.
			kv, err := back.GGUF(0)
			require.NoError(t, err)
			third, err := FromGGUF(kv)
			require.NoError(t, err)
			if name == "phi-3" { // whether a token swallows spaces is not in the entries
				return
			}
			for _, c := range cases {
				require.Equal(t, tok.Encode(c.Text, true), third.Encode(c.Text, true), "%q", c.Text)
			}
		})
	}
}

func TestSmolLM2(t *testing.T) {
	meta := readMeta(t, testdata.SmolLM2(t))
	tok, err := FromGGUF(meta)
	require.NoError(t, err)
	_, cases := readGolden(t, "testdata/smollm.json") // the same vocabulary
	checkGolden(t, tok, cases)
	require.Equal(t, []int32{0, 2}, tok.EOGs())
	eos, ok := tok.EOS()
	require.True(t, ok)
	require.Equal(t, "<|im_end|>", tok.Token(eos))
	require.Contains(t, tok.ChatTemplate(), "<|im_start|>system")
}

// The derived scores make the merges they come from.
func TestScoresAndMerges(t *testing.T) {
	tok, err := FromGGUF(readMeta(t, testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-llama-spm.gguf")))
	require.NoError(t, err)
	m := tok.spec.Model
	m.merges = scoreMerges(&m)
	require.Len(t, m.merges, 61249) // as many as Llama 2's tokenizer.json has
	scores, err := mergeScores(&m, tok.Size())
	require.NoError(t, err)
	again := m
	again.scores = scores
	require.Equal(t, m.merges, scoreMerges(&again))

	small := modelJSON{vocab: map[string]int32{"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}}
	for _, c := range []struct {
		merges [][2]string
		want   []float32
		err    string
	}{
		{[][2]string{{"b", "c"}, {"a", "b"}, {"ab", "c"}, {"a", "bc"}}, []float32{-3, -4, -5, -1, 0, -2}, ""},
		{[][2]string{{"a", "b"}, {"ab", "c"}, {"b", "c"}, {"a", "bc"}}, nil, "mixed"},
		{[][2]string{{"a", "b"}, {"ab", "c"}}, nil, "are no merge"},
	} {
		small.merges = c.merges
		scores, err := mergeScores(&small, 6)
		require.Equal(t, c.want, scores)
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
		}
	}
}

func TestModelFile(t *testing.T) {
	// Two pieces: "<unk>" of type 2, and "ab" with score -1.5.
	b := []byte{
		0x0A, 9, 0x0A, 5, '<', 'u', 'n', 'k', '>', 0x18, 2,
		0x0A, 9, 0x0A, 2, 'a', 'b', 0x15, 0, 0, 0xC0, 0xBF,
		0x12, 1, 0,
	}
	p, err := readModelFile(b)
	require.NoError(t, err)
	require.Equal(t, []modelPiece{{"<unk>", 0, 2}, {"ab", -1.5, 1}}, p)
	for n := range b {
		if n != 11 && n != 22 && n != 0 { // cut between fields
			_, err := readModelFile(b[:n])
			require.Error(t, err, "%d", n)
		}
	}
}
