//go:build unix

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the program itself, for tests that need a
// process to send signals to.
func TestMain(m *testing.M) {
	if os.Getenv("PEFTKIT_TEST_MAIN") != "" {
		os.Exit(Main())
	}
	os.Exit(m.Run())
}

// Ctrl-C leaves a checkpoint and code 130, and --resume ends with the bytes of a
// run that was never interrupted.
func TestInterrupt(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	data := write(t, in("d.jsonl"), evenOdd(60))
	args := []string{"train", "-m", model, "-d", data, "--max-steps", "400", "--grad-accum", "1", "--max-seq-len", "32", "--json"}

	cmd := exec.Command(os.Args[0], append(args, "-o", in("cut"))...)
	cmd.Env = append(os.Environ(), "PEFTKIT_TEST_MAIN=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	steps := json.NewDecoder(out)
	for range 5 {
		var s stepJSON
		require.NoError(t, steps.Decode(&s))
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	var last stepJSON
	for steps.Decode(&last) == nil {
	}
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, exitInterrupted, exit.ExitCode(), errs.String())
	require.Contains(t, errs.String(), "interrupted after step")
	require.Contains(t, errs.String(), "--resume")
	require.Less(t, last.Step, 400)
	found, err := filepath.Glob(in("cut/checkpoint-*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoFileExists(t, in("cut/adapter_model.safetensors"), "an unfinished run is no adapter")

	// The printed command continues the run.
	text := errs.String()
	_, command, _ := strings.Cut(text[:len(text)-1], "continue  peftkit ")
	require.NotEmpty(t, command)
	ok(t, strings.Fields(command)...)
	ok(t, append(args, "-o", in("whole"))...)
	read := func(name string) string {
		b, err := os.ReadFile(in(name + "/adapter_model.safetensors"))
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, read("whole"), read("cut"))
	metrics, err := os.ReadFile(in("cut/metrics.jsonl"))
	require.NoError(t, err)
	require.Equal(t, 400, bytes.Count(metrics, []byte("\n")), "each step once")
}

// The second signal does not wait.
func TestSecondSignal(t *testing.T) {
	ctx, stop := withSignals(context.Background(), &bytes.Buffer{})
	defer stop()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

// A cancelled context ends every long command with 130 and leaves nothing.
func TestCancelled(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(20))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, args := range [][]string{
		{"convert", model, "-o", filepath.Join(dir, "x.gguf")},
		{"generate", "-m", model, "-p", "x"},
		{"eval", "-m", model, "-d", data},
		{"train", "-m", model, "-d", data, "-o", filepath.Join(dir, "a")},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, exitInterrupted, Execute(ctx, args, nil, &out, &errs), "%v: %s", args, errs.String())
		require.Contains(t, errs.String(), "interrupted")
	}
	require.NoFileExists(t, filepath.Join(dir, "x.gguf"))
}
