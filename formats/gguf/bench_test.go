package gguf

import (
	"testing"

	"github.com/peftkit/peftkit/internal/testdata"
)

// BenchmarkOpen opens a model with a vocabulary of 49152 tokens.
func BenchmarkOpen(b *testing.B) {
	path := testdata.SmolLM2(b)
	b.ReportAllocs()
	for b.Loop() {
		f, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
