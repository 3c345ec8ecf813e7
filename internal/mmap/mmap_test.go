package mmap

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{0, 1, 4095, 4096, 4097, 100000} {
		want := bytes.Repeat([]byte{1, 2, 3}, n)[:n]
		path := filepath.Join(dir, "f")
		require.NoError(t, os.WriteFile(path, want, 0o666))
		f, err := Open(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, f.Data))
		Drop(f.Data)
		if n > 10 {
			Drop(f.Data[7 : n-1])
		}
		require.True(t, bytes.Equal(want, f.Data), "dropped pages come back")
		require.NoError(t, f.Close())
		require.NoError(t, f.Close())
	}
	_, err := Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(dir)
	require.Error(t, err)
}

// TestDropLeavesTheHeapAlone: advice for memory of the program would zero it.
func TestDropLeavesTheHeapAlone(t *testing.T) {
	b := bytes.Repeat([]byte{7}, 1<<20)
	Drop(b)
	Drop(nil)
	require.Equal(t, bytes.Repeat([]byte{7}, 1<<20), b)
}
