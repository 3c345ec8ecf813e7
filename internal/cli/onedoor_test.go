package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every command that uses an adapter says the same of one that holds NaN.
func TestOneDoor(t *testing.T) {
	m, dir := tiny(t), t.TempDir()
	data, ad, out := filepath.Join(dir, "d.jsonl"), filepath.Join(dir, "a"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(data, []byte(`{"text":"hello world"}`+"\n"), 0o600))
	ok(t, "train", "-m", m, "-d", data, "-o", ad, "--max-steps", "1", "--val-split", "0")
	file := filepath.Join(ad, "adapter_model.safetensors")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	copy(b[len(b)-4:], []byte{0, 0, 0xc0, 0x7f})
	require.NoError(t, os.WriteFile(file, b, 0o600))
	for _, args := range [][]string{
		{"eval", "-m", m, "-d", data, "--lora", ad}, {"generate", "-m", m, "-p", "x", "--lora", ad}, {"logits", "-m", m, "--tokens", "1", "--json", "--lora", ad},
		{"merge-lora", "-m", m, "--lora", ad, "-o", out}, {"train", "-m", m, "-d", data, "-o", out, "--init-adapter", ad}, {"convert", ad, "--base", m, "-o", out + ".gguf"},
	} {
		o := cli(t, args...)
		require.Equal(t, exitFormat, o.code, "%v: %s", args, o.errors)
		require.Contains(t, o.errors, "is NaN: the fault is the adapter's", "%v", args)
	}
}
