//go:build unix

package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/compare"
)

// Each run is a process: the test binary is the program then.
func TestCompare(t *testing.T) {
	t.Setenv("PEFTKIT_TEST_MAIN", "1")
	dir, base := t.TempDir(), bertFolder(t, "Model", 0)
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("praise/train.jsonl"), praise(48))
	write(t, in("praise/test.jsonl"), praise(16))
	args := []string{"compare", "-m", base, "-d", in("praise"), "--methods", "none,full,lora,adaption-prompt", "--seeds", "2", "--epochs", "4", "--lr", "lora=0.01",
		"--set", "lora.r=4", "--keep", in("praise/train.jsonl"), "-o", in("out"), "--threads", "1", "--no-base-dropout"}
	o := cli(t, args...)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "8: 1 task × 4 methods × 2 seeds")
	require.Regexp(t, `lora +\d+\.\d ± \d+\.\d`, o.out)
	require.Contains(t, o.out, "does not fit")
	require.Contains(t, o.out, "kept")
	require.Contains(t, o.errors, "lora on praise, seed 43  accuracy")
	require.Contains(t, read(t, in("out/table.md")), "| lora | ")
	require.Contains(t, read(t, in("out/report.html")), "</html>")
	first := read(t, in("out/results.jsonl"))
	lines := strings.Split(strings.TrimSpace(first), "\n")
	require.Len(t, lines, 8, "the drawn head of the base differs by seed")
	for _, line := range lines {
		var x compare.Outcome
		require.NoError(t, json.Unmarshal([]byte(line), &x))
		require.Empty(t, x.Failure)
		if x.Run.Method != "lora" {
			continue
		}
		require.Greater(t, x.Score, 0.8)
		require.Equal(t, 12, x.Steps)
		require.Len(t, x.Curve, 12)
		require.Equal(t, 0.01, x.Rate)
		require.Greater(t, x.Peak, int64(1<<20))
		require.NotNil(t, x.Kept)
		require.Positive(t, x.Trainable)
	}
	// Done runs are not repeated; a new method adds to them.
	o = cli(t, append(args, "--json")...)
	require.Zero(t, o.code, o.errors)
	require.Equal(t, first, read(t, in("out/results.jsonl")))
	var r compare.Report
	require.NoError(t, json.Unmarshal([]byte(o.out), &r))
	require.Len(t, r.Rows, 4)
	require.Equal(t, "accuracy", r.Tasks[0].Metric)
	args[6] = "none,lora,ia3"
	ok(t, args...)
	require.Equal(t, 10, strings.Count(read(t, in("out/results.jsonl")), "\n"))

	yaml := write(t, in("tasks.yaml"), "tasks:\n  - {name: one, train: praise/train.jsonl, eval: praise/test.jsonl, metric: matthews, max_steps: 2}\n  - {train: praise/train.jsonl, max_train: 8, max_steps: 2}\n")
	text := ok(t, "compare", "-m", base, "-d", yaml, "--methods", "none,ia3", "--seeds", "1", "--threads", "1")
	require.Contains(t, text, "Matthews correlation × 100")
	require.Contains(t, text, "average")

	// What is trained may depend on the data.
	jsonOf(t, &r, "compare", "-m", base, "-d", yaml, "--methods", "trainabletokens", "--seeds", "1", "--threads", "1")
	require.Greater(t, r.Rows[0].Trainable, int64(2*32+2), "more than the head")

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-d", in("praise"), "--methods", "nonesuch"}, "unknown method"},
		{[]string{"-d", in("nonesuch")}, "no such file"},
		{[]string{"-d", in("praise"), "--seeds", "0"}, "--seeds 0"},
		{[]string{"-d", in("praise"), "--lr", "mam=1"}, "not among the methods"},
		{[]string{}, "missing -d"},
		{[]string{"-d", write(t, in("bad.yaml"), "tasks: [{trian: x}]")}, "trian"},
	} {
		o := cli(t, append([]string{"compare", "-m", base}, c.args...)...)
		require.Equal(t, map[bool]int{true: exitData, false: exitUsage}[strings.Contains(o.errors, "no such file")], o.code, o.errors)
		require.Contains(t, o.errors, c.want)
	}
	// A metric that the task does not have fails every run.
	o = cli(t, "compare", "-m", base, "-d", in("praise"), "--methods", "none", "--metric", "bleu", "--seeds", "1")
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, "no run gave a score")
	require.Contains(t, o.errors, `metric "bleu": the task has accuracy`)
}
