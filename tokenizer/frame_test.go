package tokenizer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
)

// What transformers' RobertaTokenizer gives for the same texts.
func TestPairsRoBERTa(t *testing.T) {
	tok, err := FromFiles(readFolder(t, testdata.Dir(t, "tokenizers", "roberta"), "tokenizer.json"))
	require.NoError(t, err)
	ids, types := tok.EncodePair("Hello world", "It's")
	require.Equal(t, []int32{0, 31414, 232, 2, 2, 243, 18, 2}, ids)
	require.Equal(t, make([]int32, 8), types)
	ids, types = tok.EncodeSingle("Hello world")
	require.Equal(t, []int32{0, 31414, 232, 2}, ids)
	require.Len(t, types, 4)
	one, two := tok.Specials()
	require.Equal(t, [2]int{2, 4}, [2]int{one, two})
	require.Same(t, tok, tok.Target())
	require.Equal(t, ids, tok.EncodeTarget("Hello world"))
	for want, get := range map[int32]func() (int32, bool){0: tok.CLS, 1: tok.PAD, 2: tok.SEP, 3: tok.UNK, 50264: tok.MASK} {
		id, ok := get()
		require.True(t, ok)
		require.Equal(t, want, id)
	}
}

// Without special tokens the texts follow each other, of types 0 and 1.
func TestPairsPlain(t *testing.T) {
	tok, err := FromFiles(readFolder(t, testdata.Dir(t, "tokenizers", "gpt2"), "tokenizer.json"))
	require.NoError(t, err)
	ids, types := tok.EncodePair("Hello world", "Hello")
	require.Equal(t, []int32{15496, 995, 15496}, ids)
	require.Equal(t, []int32{0, 0, 1}, types)
	ids, types = tok.EncodePair("", "")
	require.Equal(t, []int32{}, ids)
	require.Equal(t, []int32{}, types)
}
