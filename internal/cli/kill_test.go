//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/atomicfile"
)

// process starts the program as a process of its own.
func process(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PEFTKIT_TEST_MAIN=1")
	errs := &bytes.Buffer{}
	cmd.Stderr = errs
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { // of a test that failed
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, errs
}

// temporaries lists what stands below dir under temporary names.
func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error { // files come and go
		if err == nil && strings.HasPrefix(d.Name(), atomicfile.Prefix) {
			out = append(out, p)
			if d.IsDir() {
				return filepath.SkipDir
			}
		}
		return nil
	})
	return out
}

// killAt starts the program, kills it (-9) as soon as one more temporary entry than before
// stands below dir and a while has passed, and reports whether that was in time.
func killAt(t *testing.T, dir string, while time.Duration, args ...string) bool {
	t.Helper()
	before := map[string]bool{}
	for _, p := range temporaries(t, dir) {
		before[p] = true
	}
	cmd, errs := process(t, args...)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			require.NoError(t, err, errs.String())
			return false
		default:
		}
		for _, p := range temporaries(t, dir) {
			if !before[p] && filepath.Base(p) != atomicfile.LockName {
				time.Sleep(while)
				require.NoError(t, cmd.Process.Kill())
				<-ended
				return len(temporaries(t, dir)) > 0
			}
		}
	}
}

// A convert, merge or training that is killed, however often, leaves no more than its own
// temporary files, and the next one to that name none.
func TestKilled(t *testing.T) {
	model := geometry{hidden: 256, inner: 1024, layers: 6}.write(t)
	small := tiny(t)
	data := write(t, filepath.Join(t.TempDir(), "d.jsonl"), evenOdd(20))
	adapter := filepath.Join(t.TempDir(), "adapter")
	ok(t, "train", "-m", model, "-d", data, "-o", adapter, "--max-steps", "1", "--max-seq-len", "16")
	tests := []struct {
		name string
		args []string // without the output
		out  string
		want []string // in the folder, at the end
	}{
		{"convert to a file", []string{"convert", model}, "m.gguf", []string{"m.gguf"}},
		{"convert to a folder", []string{"convert", model, "-q", "bf16", "--to", "safetensors"}, "m", []string{"m"}},
		{"merge to a file", []string{"merge-lora", "-m", model, "--lora", adapter}, "m.gguf", []string{"m.gguf"}},
		{"merge to a folder", []string{"merge-lora", "-m", model, "--lora", adapter}, "m", []string{"m"}},
		{"train", []string{"train", "-m", small, "-d", data, "--max-steps", "30", "--save-steps", "1", "--max-seq-len", "16", "--overwrite"}, "a", []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			args := append(tt.args, "-o", filepath.Join(dir, tt.out))
			hits := 0
			for i := range 20 {
				if killAt(t, dir, time.Duration(i%5)*time.Millisecond, args...) {
					hits++
				}
				require.LessOrEqual(t, len(temporaries(t, dir)), 3, "each run removes what the one before left: %v", temporaries(t, dir))
			}
			require.NotZero(t, hits, "no kill was in time")
			ok(t, args...)
			require.Empty(t, temporaries(t, dir))
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			require.Equal(t, tt.want, names)
		})
	}
}

// What a process that is alive is writing stays, though another one writes to the
// same name.
func TestTemporariesOfTheLiving(t *testing.T) {
	model := geometry{hidden: 256, inner: 1024, layers: 6}.write(t)
	for _, name := range []string{"m.gguf", "m"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, name)
			slow, errs := process(t, "convert", model, "-o", out)
			for len(temporaries(t, dir)) == 0 {
				time.Sleep(time.Millisecond / 4)
			}
			time.Sleep(2 * time.Millisecond) // until it is locked, too
			require.NoError(t, slow.Process.Signal(syscall.SIGSTOP))
			time.Sleep(50 * time.Millisecond) // all its threads
			stopped := temporaries(t, dir)
			require.Len(t, stopped, 1)
			ok(t, "convert", model, "-o", out)
			require.Equal(t, stopped, temporaries(t, dir))
			require.NoError(t, slow.Process.Signal(syscall.SIGCONT))
			require.NoError(t, slow.Wait(), errs.String())
			require.Empty(t, temporaries(t, dir))
			ok(t, "inspect", out)
		})
	}
}

// The second training into a folder is refused before it loads anything, and names
// the first; a killed one holds nothing.
func TestTwoTrainings(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(20))
	out := filepath.Join(dir, "new", "out")
	args := []string{"train", "-m", model, "-d", data, "-o", out, "--max-steps", "1000000", "--max-seq-len", "16"}
	for range 5 {
		cmd := exec.Command(os.Args[0], append(args, "--json", "--overwrite")...)
		cmd.Env = append(os.Environ(), "PEFTKIT_TEST_MAIN=1")
		steps, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var s stepJSON
		require.NoError(t, json.NewDecoder(steps).Decode(&s))
		for _, more := range [][]string{nil, {"--overwrite"}, {"--resume"}, {"-m", filepath.Join(dir, "no-such-model")}, {"-o", filepath.Join(dir, "new", ".", "..", "new", "out")}} {
			o := cli(t, append(args, more...)...)
			require.Equal(t, exitUsage, o.code, o.errors)
			require.Contains(t, strings.Join(strings.Fields(o.errors), " "), fmt.Sprintf("process %d is writing into this folder; wait for it, end it (kill %d), or choose another output folder", cmd.Process.Pid, cmd.Process.Pid))
		}
		ok(t, append(args, "--dry-run")...) // writes nothing
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
	ok(t, append(args, "--overwrite", "--max-steps", "2")...)
	require.Empty(t, temporaries(t, dir))

	// A run that cannot begin leaves no folder.
	none := filepath.Join(dir, "a", "b")
	require.NotZero(t, cli(t, "train", "-m", filepath.Join(dir, "no-such-model"), "-d", data, "-o", none).code)
	require.NoDirExists(t, filepath.Dir(none))
}
