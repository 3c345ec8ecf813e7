package cli

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/peft"
)

// What train suggests can be done.
func TestNextFitsMethodAndFamily(t *testing.T) {
	dir := t.TempDir()
	pairs := write(t, filepath.Join(dir, "p.jsonl"), evenOdd(10))
	letters := write(t, filepath.Join(dir, "s.jsonl"), strings.Repeat(`{"source":"abc","target":"bcd"}`+"\n", 10))
	llama, bart := tiny(t), bartFolder(t)
	for _, c := range []struct{ name, model, data, method, merge string }{
		{"a language model", llama, pairs, "lora", "tuned.gguf"},
		{"rows before the text", llama, pairs, "prompt-tuning", ""},
		{"partly merged", llama, pairs, "lora+prompt-tuning", "tuned.gguf"},
		{"no architecture in GGUF", bart, letters, "lora", "tuned"},
		{"neither", bart, letters, "houlsby", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "a")
			o := cli(t, "train", "-m", c.model, "-d", c.data, "-o", out, "--method", c.method, "--max-steps", "1", "--save-steps", "0")
			require.Zero(t, o.code, o.errors)
			ok(t, "generate", "-m", c.model, "--lora", out, "-p", "a", "-n", "2")
			ok(t, "eval", "-m", c.model, "--lora", out, "-d", c.data)
			if c.merge == "" {
				require.NotContains(t, o.out, "merge-lora")
				require.Equal(t, exitFormat, cli(t, "merge-lora", "-m", c.model, "--lora", out, "-o", out+".out").code)
				return
			}
			require.Regexp(t, `merge-lora .* -o `+c.merge+`\n`, o.out)
			merged := filepath.Join(filepath.Dir(out), c.merge)
			said := ok(t, "merge-lora", "-m", c.model, "--lora", out, "-o", merged)
			if strings.Contains(c.method, "prompt") {
				require.Regexp(t, `stays adapter +\S*prompt-tuning: apply it to the output with --lora`, said)
			}
			ok(t, "generate", "-m", merged, "-p", "a", "-n", "2")
		})
	}
}

// An adapter without a GGUF form says so before anybody looks for the base.
func TestNoGGUFForm(t *testing.T) {
	dir := t.TempDir()
	llama, pairs := tiny(t), write(t, filepath.Join(dir, "p.jsonl"), evenOdd(10))
	for method, says := range map[string]string{"loha": "--svd-rank", "houlsby": "nonlinear", "prompt-tuning": "before the text"} {
		out := filepath.Join(dir, method)
		o := cli(t, "train", "-m", llama, "-d", pairs, "-o", out, "--method", method, "--max-steps", "1", "--save-steps", "0")
		require.Zero(t, o.code, o.errors)
		o = cli(t, "convert", out, "-o", out+".gguf")
		require.NotZero(t, o.code)
		require.Contains(t, o.errors, "no GGUF form")
		require.Contains(t, o.errors, says)
	}
}

func TestCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"train --method ":           "houlsby",
		"train --method lora+":      "lora+ia3",
		"compare --methods none,":   "none,lora",
		"methods ":                  "lora",
		"train --schedule ":         "linear",
		"eval --task ":              "token-cls",
		"train --method nonesuch+l": "nonesuch+lora",
	} {
		out := ok(t, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		require.Contains(t, out, want, args)
	}
}

// The example that methods prints runs as printed.
func TestExamplesOfMethods(t *testing.T) {
	dir := t.TempDir()
	models := [][2]string{
		{bertFolder(t, "Model", 0), write(t, filepath.Join(dir, "l.jsonl"), praise(20))},
		{tiny(t), write(t, filepath.Join(dir, "p.jsonl"), evenOdd(20))},
	}
	for _, m := range peft.Methods() {
		name := m.Info().Name
		t.Run(name, func(t *testing.T) {
			text := ok(t, "methods", name)
			at := strings.Index(text, "peftkit train ")
			require.Positive(t, at)
			line, _, _ := strings.Cut(text[at:], "\n")
			fitted := false
			for _, base := range models {
				args := strings.Fields(line)[1:]
				for i, a := range args {
					args[i] = map[string]string{"MODEL": base[0], "DATA": base[1], "adapters": filepath.Join(dir, "out")}[a]
					if args[i] == "" {
						args[i] = a
					}
				}
				o := cli(t, append(args, "--dry-run", "--max-seq-len", "16")...)
				if o.code == 0 {
					fitted = true
					continue
				}
				// Not the example's fault: no such option, no such value would be.
				require.NotContains(t, o.errors, "unknown", o.errors)
				require.Regexp(t, "does not fit|choose another|positions|divid|multiple|larger|at most|the layer has|asks for|number of elements|token_indices|rank|lora-1", o.errors)
			}
			if !fitted {
				t.Log("fits no test model: ", line)
			}
			head, _, _ := strings.Cut(text, "\n\n  --")
			require.LessOrEqual(t, strings.Count(head, "\n"), 14)
		})
	}
}

var nextLine = regexp.MustCompile(`(?m)^  (?:next|    )  (?:  )?(peftkit .*)$`)

// Every command that is printed as a next step can be done.
func TestNextCommandsRun(t *testing.T) {
	b := newBench(t)
	t.Chdir(b.dir)
	write(t, "data/train.jsonl", evenOdd(10))
	write(t, "data/test.jsonl", evenOdd(4))
	write(t, "table.csv", "q,a\n"+strings.Repeat("x,y\n", 10))
	write(t, "tuned.gguf", "something else")
	train := []string{"train", "--max-steps", "1", "--save-steps", "0", "-m"}
	for _, args := range [][]string{
		append(train, "model", "-d", "data", "-o", "a1"),
		append(train, "model", "-d", "data/train.jsonl", "-o", "a2"),
		append(train, "model", "-d", "table.csv", "--map", "prompt=q", "--map", "completion=a", "-o", "a3", "--valid", "table.csv"),
		append(train, "model", "-d", "data", "-o", "a4", "--method", "prompt-tuning"),
		append(train, "encoder", "-d", "labels.jsonl", "-o", "a5"),
		{"convert", "model", "-o", "m.gguf"}, {"convert", "m.gguf", "-o", "again"}, {"convert", "encoder", "-o", "copy"}, {"convert", "undecodable", "-o", "whole.gguf"},
		{"convert", "adapter", "-o", "ad.gguf", "--base", "model"}, {"convert", "adapter", "-o", "ad2", "--base", "model"},
		{"merge-lora", "-m", "model", "--lora", "adapter", "-o", "merged"}, {"merge-lora", "-m", "untokenized", "--lora", "adapter", "-o", "merged2"},
	} {
		said := ok(t, args...)
		found := nextLine.FindAllStringSubmatch(said, -1)
		require.NotEmpty(t, found, "%v: %s", args, said)
		for _, m := range found {
			words := strings.Fields(strings.ReplaceAll(m[1], `"`, ""))[1:]
			o := cli(t, words...)
			require.Zero(t, o.code, "%v proposes %q: %s", args, m[1], o.errors)
		}
	}
}
