package tokenizer

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
)

func BenchmarkEncode(b *testing.B) {
	text, err := os.ReadFile(testdata.Dir(b, "text", "tinyshakespeare", "input.txt"))
	if err != nil {
		b.Skip(err)
	}
	smollm, err := FromFiles(readFolder(b, testdata.Dir(b, "tokenizers", "smollm")))
	require.NoError(b, err)
	llama, err := FromGGUF(readMeta(b, testdata.Dir(b, "tokenizers", "ggml-vocab", "ggml-vocab-llama-spm.gguf")))
	require.NoError(b, err)
	bert, err := FromFiles(readFolder(b, testdata.Dir(b, "tokenizers", "bert")))
	require.NoError(b, err)
	t5, err := FromFiles(readFolder(b, testdata.Dir(b, "tokenizers", "t5")))
	require.NoError(b, err)
	for _, c := range []struct {
		name string
		tok  *Tokenizer
	}{{"byte-level", smollm}, {"sentencepiece", llama}, {"wordpiece", bert}, {"unigram", t5}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			s := string(text)
			for b.Loop() {
				c.tok.Encode(s, false)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, name := range []string{"smollm", "bert", "t5"} {
		files := readFolder(b, testdata.Dir(b, "tokenizers", name))
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := FromFiles(files); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
