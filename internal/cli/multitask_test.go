package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
)

// One adapter learns two tasks that disagree about every text.
func TestTasksOfOneAdapter(t *testing.T) {
	base, dir := bertFolder(t, "Model", 0), t.TempDir()
	var b strings.Builder
	for i := range 64 {
		word, other := "good", "bad"
		if i%2 == 1 {
			word, other = other, word
		}
		label := map[string]string{"good": "pos", "bad": "neg"}
		task, of := "praise", word
		if i/2%2 == 1 {
			task, of = "inverse", other
		}
		fmt.Fprintf(&b, `{"text":"the film is %s","label":"%s","task":"%s"}`+"\n", word, label[of], task)
	}
	file := write(t, filepath.Join(dir, "d.jsonl"), b.String())
	out := filepath.Join(dir, "a")
	args := []string{"train", "-m", base, "-d", file, "-o", out, "--method", "multitask-prompt-tuning", "--virtual-tokens", "4", "--save-steps", "0"}
	o := cli(t, append(args, "--tasks", "1")...)
	require.Equal(t, exitData, o.code)
	require.Contains(t, o.errors, "name 2 tasks (inverse, praise)")
	require.NoDirExists(t, out, "nothing was trained")

	o = cli(t, append(args, "--tasks", "2", "--set", "num_ranks=2", "--max-steps", "150", "--lr", "0.05")...)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.out, "2 tasks: inverse (32), praise (32)")
	names, err := os.ReadFile(filepath.Join(out, data.TaskFile))
	require.NoError(t, err)
	require.JSONEq(t, `{"tasks":["inverse","praise"]}`, string(names))

	all := evaluate(t, "-m", base, "--lora", out, "-d", file)
	// A share of 64 records: nearer than one of them.
	require.InDelta(t, 1, *all.Score, 0.01, "both tasks are learnt")
	one := evaluate(t, "-m", base, "--lora", out, "-d", file, "--task-id", "praise")
	require.InDelta(t, 0.5, *one.Score, 0.01, "half of the data are of the other")
	number := evaluate(t, "-m", base, "--lora", out, "-d", file, "--task-id", "1")
	require.Equal(t, *one.Loss, *number.Loss)
	for task, want := range map[string]string{"praise": "pos", "inverse": "neg"} {
		var c classified
		jsonOf(t, &c, "classify", "-m", base, "--lora", out, "--task-id", task, "the film is good")
		require.Equal(t, want, c.Label)
	}
	for id, says := range map[string]string{"2": "0 to 1", "-1": "0 to 1", "other": "inverse, praise"} {
		o := cli(t, "eval", "-m", base, "--lora", out, "-d", file, "--task-id="+id)
		require.Equal(t, exitUsage, o.code, o.errors)
		require.Contains(t, o.errors, says)
	}
	odd := write(t, filepath.Join(dir, "odd.jsonl"), `{"text":"a film","label":"pos","task":7}`+"\n")
	o = cli(t, "eval", "-m", base, "--lora", out, "-d", odd)
	require.Equal(t, exitData, o.code)
	require.Contains(t, o.errors, "odd.jsonl:1")
	o = cli(t, "eval", "-m", base, "-d", file, "--task-id", "0")
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, "tells tasks apart")
}

// Texts and their answers, a task each, written and compared in one run.
func TestTasksWhenWriting(t *testing.T) {
	dir := t.TempDir()
	pairs := `{"source":"abc","target":"a","task":0}` + "\n" + `{"source":"abc","target":"b","task":1}` + "\n"
	plain := strings.NewReplacer("source", "prompt", "target", "completion").Replace(pairs)
	for name, c := range map[string][2]string{"both": {bartFolder(t), pairs}, "decoder": {tiny(t), plain}} {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(dir, name+".jsonl"), c[1])
			out := filepath.Join(dir, name)
			o := cli(t, "train", "-m", c[0], "-d", file, "-o", out, "--method", "mpt", "--tasks", "2", "--max-steps", "2", "--save-steps", "0", "--virtual-tokens", "4")
			require.Zero(t, o.code, o.errors)
			e := evaluate(t, "-m", c[0], "--lora", out, "-d", file, "--exact-match")
			require.Equal(t, 2, e.Examples)
			require.NoFileExists(t, filepath.Join(out, data.TaskFile), "numbers need no names")
			ok(t, "generate", "-m", c[0], "--lora", out, "-p", "abc", "-n", "2", "--task-id", "1")
			require.Equal(t, exitUsage, cli(t, "generate", "-m", c[0], "--lora", out, "-p", "abc", "--task-id", "2").code)
		})
	}
}

// A prompt takes positions: texts are cut to what is left, and that is told.
func TestPromptsTakePositions(t *testing.T) {
	base, dir := bertFolder(t, "Model", 0), t.TempDir()
	long := strings.Repeat("good ", 400)
	file := write(t, filepath.Join(dir, "d.jsonl"), fmt.Sprintf("{\"text\":%q,\"label\":\"a\"}\n{\"text\":\"bad\",\"label\":\"b\"}\n", long))
	out := filepath.Join(dir, "a")
	o := cli(t, "train", "-m", base, "-d", file, "-o", out, "--method", "prompt-tuning", "--virtual-tokens", "10", "--max-steps", "1")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, "1 of 2 examples were cut")
	o = cli(t, "eval", "-m", base, "--lora", out, "-d", file)
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, "1 of 2 examples were cut")
	o = cli(t, "classify", "-m", base, "--lora", out, long, "bad")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, "1 of 2 texts were cut")
}
