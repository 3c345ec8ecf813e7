package cli

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/internal/bound"
)

// The path a user goes: look, train, measure, try, merge, carry on.
func TestWholePath(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	data := write(t, in("data/train.jsonl"), evenOdd(80))
	write(t, in("data/valid.jsonl"), evenOdd(20))

	var look inspection
	jsonOf(t, &look, "inspect", model)
	require.Equal(t, "llama", look.Family)
	require.Len(t, look.Modules, 2+1+2*9)

	text := ok(t, "train", "-m", model, "-d", in("data"), "-o", in("adapter"), "--lr", "0.005", "--epochs", "12", "--grad-accum", "1", "--max-seq-len", "64")
	require.Contains(t, text, "LoRA rank 16 on 14 modules")
	require.Contains(t, text, "20 examples")
	require.Contains(t, text, "peftkit merge-lora -m "+model)
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors", "README.md", "metrics.jsonl"} {
		require.FileExists(t, in("adapter/"+name))
	}

	before, after, merged := evaluate(t, "-m", model, "-d", data), evaluate(t, "-m", model, "-d", data, "--lora", in("adapter")), 0.0
	require.Less(t, *after.Loss, *before.Loss/2)
	half := evaluate(t, "-m", model, "-d", data, "--lora", in("adapter")+":0.5")
	require.Greater(t, *half.Loss, *after.Loss)

	var report outcome
	jsonOf(t, &report, "merge-lora", "-m", model, "--lora", in("adapter"), "-o", in("merged.gguf"))
	require.Equal(t, 14, report.Changed)
	require.Equal(t, 28, report.Matched)
	merged = *evaluate(t, "-m", in("merged.gguf"), "-d", data).Loss
	// A loss is off by no more than its logits: some hundred roundings (Spread(400) is 5e-6)
	// where the merged weight stands for two products, of sums of a size of about 1.
	same := math.Sqrt2 * bound.Spread(400)
	require.InDelta(t, *after.Loss, merged, same)

	ok(t, "convert", in("adapter"), "-o", in("adapter.gguf"), "--base", model)
	onGGUF := evaluate(t, "-m", model, "-d", data, "--lora", in("adapter.gguf"))
	require.InDelta(t, *after.Loss, *onGGUF.Loss, same)

	exact := evaluate(t, "-m", in("merged.gguf"), "-d", in("data"), "--exact-match", "--answers", in("answers.jsonl"))
	require.Equal(t, 20, exact.Examples, "of a folder without test.* the valid part")
	require.Greater(t, *exact.ExactMatch, 0.9)
	answers, err := os.ReadFile(in("answers.jsonl"))
	require.NoError(t, err)
	require.Equal(t, 20, strings.Count(string(answers), "\n"))

	var g generated
	jsonOf(t, &g, "generate", "-m", in("merged.gguf"), "-p", "O 7 is ", "-n", "8")
	require.Equal(t, "odd", g.Text)
	require.Equal(t, "<eos>", *g.Stop)
	require.Equal(t, 7, g.PromptTokens)
	require.Len(t, g.Tokens, 3)

	var h health
	jsonOf(t, &h, "doctor", in("adapter"), "-m", model)
	require.Empty(t, h.Findings)
	require.Equal(t, 28, h.Matched)
	require.Greater(t, h.Strength, 0.0)
}

func evaluate(t *testing.T, args ...string) *evaluation {
	t.Helper()
	e := &evaluation{}
	jsonOf(t, e, append([]string{"eval"}, args...)...)
	require.False(t, math.IsNaN(*e.Loss))
	return e
}

// What was decided about a file is in the JSON of eval, too.
func TestEvalTellsOfFiles(t *testing.T) {
	data := write(t, filepath.Join(t.TempDir(), "d.csv"), "prompt;completion;id\nE 2 is ;even;1\nO 3 is ;odd;2\n")
	e := evaluate(t, "-m", tiny(t), "-d", data)
	require.Equal(t, 2, e.Examples)
	require.Contains(t, strings.Join(e.Notes, "\n"), data+": the columns are separated by semicolons")
	require.Equal(t, []string{"id"}, e.Unused)
}

func TestTrainJSONAndMetrics(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(30))
	o := cli(t, "train", "-m", model, "-d", data, "-o", filepath.Join(dir, "a"), "--max-steps", "4", "--grad-accum", "2", "--val-split", "0.2", "--eval-steps", "2", "--json")
	require.Zero(t, o.code, o.errors)
	lines := strings.Split(strings.TrimSpace(o.out), "\n")
	require.Len(t, lines, 5)
	var step stepJSON
	for i, l := range lines[:4] {
		step = stepJSON{}
		require.NoError(t, json.Unmarshal([]byte(l), &step))
		require.Equal(t, i+1, step.Step)
		require.Equal(t, 4, step.Total)
		require.Equal(t, i%2 == 1, step.ValLoss != nil)
	}
	var sum summaryJSON
	require.NoError(t, json.Unmarshal([]byte(lines[4]), &sum))
	require.True(t, sum.Done)
	require.Equal(t, step.Loss, *sum.Loss)
	require.Equal(t, *step.ValLoss, *sum.ValLoss)
	require.Contains(t, o.errors, "trainable", "the header is for people")

	metrics, err := os.ReadFile(filepath.Join(dir, "a", "metrics.jsonl"))
	require.NoError(t, err)
	require.Equal(t, 6, strings.Count(string(metrics), "\n"))
}

// The same seed gives the same bytes, on any number of threads.
func TestTrainSameBytes(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(40))
	run := func(name string, more ...string) string {
		out := filepath.Join(dir, name)
		ok(t, append([]string{"train", "-m", model, "-d", data, "-o", out, "--max-steps", "3", "--dropout", "0.1"}, more...)...)
		b, err := os.ReadFile(filepath.Join(out, "adapter_model.safetensors"))
		require.NoError(t, err)
		return string(b)
	}
	one := run("one", "--threads", "1")
	require.Equal(t, one, run("two", "--threads", "2"))
	require.Equal(t, one, run("eight", "--threads", "8"))
	require.NotEqual(t, one, run("other", "--seed", "1"))
	ok(t, "doctor", "--threads", "2", "--json") // leave the pool at a sane size
}

func TestInitAdapter(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	data := write(t, in("d.jsonl"), evenOdd(40))
	ok(t, "train", "-m", model, "-d", data, "-o", in("a"), "--max-steps", "8", "--lr", "0.02", "--rank", "4", "--target-modules", "q_proj")
	start := *evaluate(t, "-m", model, "-d", data, "--lora", in("a")).Loss
	out := ok(t, "train", "-m", model, "-d", data, "-o", in("b"), "--init-adapter", in("a"), "--max-steps", "8", "--lr", "0.02")
	require.Contains(t, out, "LoRA rank 4 on 2 modules (q_proj)")
	require.Less(t, *evaluate(t, "-m", model, "-d", data, "--lora", in("b")).Loss, start)

	o := cli(t, "train", "-m", model, "-d", data, "-o", in("c"), "--init-adapter", in("a"), "--rank", "8")
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, "rank")
	o = cli(t, "train", "-m", model, "-d", data, "-o", in("a"), "--init-adapter", in("a"), "--overwrite")
	require.Equal(t, exitUsage, o.code, "the adapter to start from is not overwritten")
}

func TestTrainRefusesToOverwrite(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	out := filepath.Join(dir, "a")
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(20))
	args := []string{"train", "-m", model, "-d", data, "-o", out, "--max-steps", "2"}
	ok(t, args...)
	o := cli(t, args...)
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, "--overwrite")
	ok(t, append(args, "--overwrite")...)
	o = cli(t, append(args, "--resume")...)
	require.Zero(t, o.code)
	require.Contains(t, o.errors, "nothing is left to train")

	// Without checkpoints, the adapter itself is protected.
	other := filepath.Join(dir, "b")
	args = []string{"train", "-m", model, "-d", data, "-o", other, "--max-steps", "1", "--save-steps", "0"}
	ok(t, args...)
	o = cli(t, args...)
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, "holds an adapter already")
	require.Equal(t, exitUsage, cli(t, "train", "-m", model, "-d", data, "-o", model).code, "never into a model")
}

func TestDryRunTouchesNothing(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(20))
	out := ok(t, "train", "-m", model, "-d", data, "-o", filepath.Join(dir, "a"), "--dry-run")
	require.Contains(t, out, "trainable")
	require.NoDirExists(t, filepath.Join(dir, "a"))
}

func TestGenerate(t *testing.T) {
	model := geometry{hidden: 32, inner: 64, layers: 2,
		template: "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"}.write(t)
	var chat, raw, stdin, sampled, again generated
	jsonOf(t, &chat, "generate", "-m", model, "-p", "Hi", "-n", "6")
	require.True(t, chat.Template)
	require.Equal(t, len("<user>Hi<assistant>"), chat.PromptTokens)
	jsonOf(t, &raw, "generate", "-m", model, "-p", "Hi", "-n", "6", "--raw")
	require.False(t, raw.Template)
	require.Equal(t, 2, raw.PromptTokens)
	jsonOf(t, &sampled, "generate", "-m", model, "-p", "Hi", "-n", "20", "--temp", "1", "--seed", "7")
	jsonOf(t, &again, "generate", "-m", model, "-p", "Hi", "-n", "20", "--temp", "1", "--seed", "7")
	require.Equal(t, sampled.Tokens, again.Tokens)

	o := cliInput(t, "Hi\n", "generate", "-m", model, "-p", "-", "-n", "6", "--json")
	require.Zero(t, o.code)
	require.NoError(t, json.Unmarshal([]byte(o.out), &stdin))
	require.Equal(t, chat.Tokens, stdin.Tokens)

	o = cli(t, "generate", "-m", model, "-p", "Hi", "-n", "6")
	require.Equal(t, chat.Text, strings.TrimSuffix(o.out, "\n"))
	require.Contains(t, o.errors, "prompt tokens")
	require.Equal(t, exitUsage, cli(t, "generate", "-m", model, "-p", "Hi", "--raw", "--system", "x").code)
}

func TestTokenize(t *testing.T) {
	model := tiny(t)
	require.Equal(t, "39 72\n", ok(t, "tokenize", "-m", model, "-p", "Hi"))
	require.Equal(t, "39 72\n", ok(t, "tokenize", "-m", model, "--file", write(t, filepath.Join(t.TempDir(), "f"), "Hi")))
	var got struct {
		Tokens []int32
		Pieces []string
	}
	jsonOf(t, &got, "tokenize", "-m", model, "-p", "a b")
	require.Equal(t, []string{"a", "Ġ", "b"}, got.Pieces)
	require.Contains(t, ok(t, "tokenize", "-m", model, "-p", "a", "--pieces"), "64  a")
}

func TestLogits(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	out := filepath.Join(dir, "l.safetensors")
	ok(t, "logits", "-m", model, "--tokens", "39, 72", "-o", out)
	f, err := safetensors.Open(out)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, []int{2, 97}, f.Tensor("logits").Shape)

	prompts := write(t, filepath.Join(dir, "p.jsonl"), "[1,2,3]\n{\"text\": \"Hi\"}\n{\"tokens\": [5]}\n")
	many := filepath.Join(dir, "m.safetensors")
	ok(t, "logits", "-m", model, "--prompts", prompts, "-o", many)
	g, err := safetensors.Open(many)
	require.NoError(t, err)
	defer g.Close()
	require.Equal(t, f.Tensor("logits").Data, g.Tensor("logits.1").Data)
	require.Equal(t, []int{1, 97}, g.Tensor("logits.2").Shape)
	require.Equal(t, exitUsage, cli(t, "logits", "-m", model, "--tokens", "1,999", "-o", out).code)
}

func TestPluginsAndVersion(t *testing.T) {
	var l pluginList
	jsonOf(t, &l, "plugins")
	var names []string
	for _, m := range l.Methods {
		names = append(names, m.Name)
		require.NotZero(t, m.LearningRate)
		require.NotEmpty(t, m.Doc)
	}
	require.Contains(t, names, "lora")
	require.NotEmpty(t, l.Families)
	out := ok(t, "plugins")
	for _, f := range l.Formats {
		require.Contains(t, out, f.Name)
	}
	for _, name := range names {
		require.Contains(t, out, name)
	}
	require.Contains(t, ok(t, "plugins", "LoRA"), "--rank")
	require.Equal(t, exitUsage, cli(t, "plugins", "nonesuch").code)
	require.Contains(t, ok(t, "version"), "peftkit")
	require.Contains(t, ok(t, "--version"), "peftkit")
}

func TestDoctorMachine(t *testing.T) {
	var m machine
	jsonOf(t, &m, "doctor")
	require.NotEmpty(t, m.Tier)
	require.Contains(t, m.Tiers, m.Tier)
	require.Positive(t, m.PeakF32)
	require.Contains(t, ok(t, "doctor"), "GFLOP/s")
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	dir, model := t.TempDir(), tiny(t)
	fresh := filepath.Join(dir, "fresh")
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(20))
	// The warm-up's first step has learning rate 0: B stays zero.
	ok(t, "train", "-m", model, "-d", data, "-o", fresh, "--max-steps", "1", "--warmup", "5")
	o := cli(t, "doctor", fresh, "-m", model)
	require.Equal(t, exitFormat, o.code)
	require.Contains(t, o.out, "never trained")
	require.Contains(t, o.out, "changes nothing")
	require.Equal(t, exitUsage, cli(t, "doctor", model, "-m", model).code)
	ok(t, "doctor", model)
}

// A few small steps do not reach from one 4-bit code to the next: the merged
// file is written, but not without a word.
func TestMergeWarnsOfALostUpdate(t *testing.T) {
	dir := t.TempDir()
	data := write(t, dir+"/d.jsonl", strings.Repeat(`{"prompt": "Mr. Darcy", "completion": " smiled at her."}`+"\n", 8))
	ok(t, "convert", "../demo/assets/austen.gguf", "-o", dir+"/q4.gguf", "-q", "q4_0")
	ok(t, "train", "-m", dir+"/q4.gguf", "-d", data, "-o", dir+"/adapters", "--max-steps", "3")
	for _, c := range []struct {
		kind string
		want bool
	}{{"keep", true}, {"f32", false}} {
		got := cli(t, "merge-lora", "-m", dir+"/q4.gguf", "--lora", dir+"/adapters", "-o", dir+"/"+c.kind+".gguf", "-q", c.kind)
		require.Zero(t, got.code, got.errors)
		require.Equal(t, c.want, strings.Contains(strings.Join(strings.Fields(got.errors), " "), "left after rounding"), got.errors)
	}
}
