package tokenizer

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
)

// The pronunciation model: letters in, phonemes out. With these ids the model
// writes the dictionary's pronunciation.
func TestCharacters(t *testing.T) {
	config, err := os.ReadFile(testdata.Dir(t, "models", "us_bart", "us_bart_config.json"))
	require.NoError(t, err)
	tok, err := FromModel(&formats.Model{Config: config})
	require.NoError(t, err)
	require.Equal(t, []int32{1, 33, 34, 58, 57, 2}, tok.Encode("FGyx", true))
	require.Equal(t, []int32{1, 3, 3, 20, 3, 2}, tok.Encode("<_sé", true))
	require.Equal(t, []int32{1, 45, 26, 38, 2}, tok.EncodeTarget("ˈæʃ"))
	require.Equal(t, "ˈæʃ", tok.Target().Decode([]int32{1, 1, 45, 26, 38, 2}))
	require.Equal(t, []int32{2}, tok.Target().EOGs())
	require.Equal(t, tok.Target(), tok.Target().Target())
	require.Equal(t, []int{59, 50}, []int{tok.Size(), tok.Target().Size()})
	for want, get := range []func() (int32, bool){tok.PAD, tok.BOS, tok.EOS, tok.UNK} {
		id, ok := get()
		require.True(t, ok)
		require.Equal(t, int32(want), id)
	}
	_, err = tok.GGUF(0)
	require.ErrorContains(t, err, "target")

	b, err := os.ReadFile(testdata.Dir(t, "models", "us_bart", "us_gold.json"))
	require.NoError(t, err)
	var gold map[string]any
	require.NoError(t, json.Unmarshal(b, &gold))
	words, lossless := 0, 0
	for word, p := range gold {
		p, ok := p.(string)
		if !ok {
			continue
		}
		words++
		require.Equal(t, p, tok.Target().Decode(tok.EncodeTarget(p)))
		require.Len(t, tok.Encode(word, false), len([]rune(word)))
		if tok.Decode(tok.Encode(word, true)) == word {
			lossless++
		}
	}
	require.Greater(t, lossless, words*99/100)
}

func TestCharactersBroken(t *testing.T) {
	for name, c := range map[string][2]string{
		`{"grapheme_chars":"___","phoneme_chars":"____a"}`:                     {"grapheme_chars", "3 characters"},
		`{"grapheme_chars":"____a","phoneme_chars":"____aa"}`:                  {"phoneme_chars", "4 and 5"},
		`{"grapheme_chars":"a___b","phoneme_chars":"____a"}`:                   {"grapheme_chars", "want _"},
		`{"grapheme_chars":"____b","phoneme_chars":"____a","bos_token_id":3}`:  {"bos_token_id", "want 1"},
		`{"grapheme_chars":"____b","phoneme_chars":"____a","eos_token_id":""}`: {"config.json", "eos_token_id"},
	} {
		_, err := FromFiles(map[string][]byte{"config.json": []byte(name)})
		require.ErrorContains(t, err, c[0])
		require.True(t, strings.Contains(err.Error(), c[1]), "%v", err)
	}
	_, err := FromFiles(map[string][]byte{"source.spm": {1}, "target.spm": {1}})
	require.ErrorContains(t, err, "source.spm without tokenizer.json")
}
