package demo_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/demo"
	_ "github.com/peftkit/peftkit/plugins/standard"
)

// A shortened story: it must learn, and its files must be there.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	dir := t.TempDir()
	r, err := demo.Run(context.Background(), &out, demo.Options{Dir: dir, Examples: 480, Test: 60})
	require.NoError(t, err, out.String())
	require.Equal(t, 60, r.Test)
	require.Greater(t, r.After, 0.08, "a sixth of the data must already teach it to answer with titles")
	require.Less(t, r.LastLoss, r.FirstLoss/4)
	require.LessOrEqual(t, r.MergedMaxDiff, 1e-3) // demo.tolerance, which says what it is made of
	for _, name := range []string{"austen.gguf", "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "merged.gguf", "test.jsonl"} {
		_, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	require.Contains(t, out.String(), "Right on unseen passages")

	// Again in the same folder: replaced, not refused.
	_, err = demo.Run(context.Background(), &out, demo.Options{Dir: dir, Examples: 32, Test: 2})
	require.NoError(t, err)
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := demo.Run(ctx, &bytes.Buffer{}, demo.Options{Dir: t.TempDir()})
	require.ErrorIs(t, err, context.Canceled)
}
