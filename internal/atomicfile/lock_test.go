package atomicfile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	l, err := LockDir(dir)
	require.NoError(t, err)
	var busy *BusyError
	_, err = LockDir(dir)
	require.ErrorAs(t, err, &busy)
	require.Equal(t, os.Getpid(), busy.PID)
	require.Empty(t, busy.Host)
	require.ErrorAs(t, WriteDir(context.Background(), dir, DirOptions{Owned: owned}, fill("new")), &busy, "not into the folder of a run")
	l.Release()
	l.Release()
	require.NoDirExists(t, filepath.Dir(dir), "what was made for the lock and stayed empty")

	// What a killed process left holds nothing.
	put(t, filepath.Join(dir, LockName), "1 elsewhere\n")
	l, err = LockDir(dir)
	require.NoError(t, err)
	put(t, filepath.Join(dir, "f"), "x")
	l.Release()
	require.Equal(t, "f=x", list(t, dir))
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	live, err := Create(filepath.Join(dir, "f"))
	require.NoError(t, err)
	defer live.Abort()
	name := filepath.Base(live.tmp.Name())
	for _, n := range []string{
		Prefix + "f-1-0", Prefix + "f-999999-17", Prefix + "d-2-0/x", // left
		Prefix + "f-1", Prefix + "f", Prefix + "f-x-0", "f-1-0", // somebody else's
		Prefix + "d-3-0/" + asideName + "/old", // holds what is replaced
	} {
		put(t, filepath.Join(dir, n), "half")
	}
	stays := []string{name, Prefix + "f-1", Prefix + "f", Prefix + "f-x-0", "f-1-0", Prefix + "d-3-0"}
	names := func() (out []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	require.NoError(t, WriteBytes(filepath.Join(dir, "f-1"), nil)) // another name
	require.NoError(t, os.Remove(filepath.Join(dir, "f-1")))
	require.ElementsMatch(t, append(stays, Prefix+"f-1-0", Prefix+"f-999999-17", Prefix+"d-2-0"), names())
	sweepFor(filepath.Join(dir, "f"))
	require.ElementsMatch(t, append(stays, Prefix+"d-2-0"), names())
	Sweep(dir)
	require.ElementsMatch(t, stays, names())
	require.NoError(t, live.Commit())
	require.FileExists(t, filepath.Join(dir, "f"))
	require.Equal(t, fmt.Sprintf("%sf-%d-0", Prefix, os.Getpid()), name)
}
