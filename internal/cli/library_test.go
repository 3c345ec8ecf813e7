package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

// asLibrary trains as a program does that imports the packages and sets nothing but
// the number of steps, and returns the folder of the adapter.
func asLibrary(t *testing.T, folder, file, method string, options peft.Options, steps int) string {
	t.Helper()
	ctx, out := context.Background(), filepath.Join(t.TempDir(), "library")
	c, err := model.Open(folder)
	require.NoError(t, err)
	o, _, err := data.HeadFor(file, data.Options{}, c, model.Options{})
	require.NoError(t, err)
	cfg := train.Default()
	cfg.MaxSteps, o.Seed = steps, cfg.Seed
	m, err := model.Build(c, o)
	require.NoError(t, err)
	defer m.Close()
	methods, err := peft.ParseMethods(method)
	require.NoError(t, err)
	parts, err := peft.SplitOptions(methods, options)
	require.NoError(t, err)
	ad, err := peft.New(m, parts, cfg.Seed)
	require.NoError(t, err)
	tok, err := tokenizer.FromModel(m.Source)
	require.NoError(t, err)
	ds, err := data.Load(file, data.Options{Tokenizer: tok, MaxSeqLen: 512, Task: m.Options.Task, Labels: m.Options.Labels,
		Problem: m.Options.Problem, Start: m.Start, Tasks: m.Tasks})
	require.NoError(t, err)
	_, err = train.Run(ctx, cfg, m, ad, ds)
	require.NoError(t, err)
	require.NoError(t, peft.Save(ctx, out, ad, nil))
	return out
}

// weights are the files of an adapter, its configuration included, by their path.
func weights(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d.IsDir() && strings.HasPrefix(d.Name(), "checkpoint-") {
				return filepath.SkipDir
			}
			return err
		}
		switch filepath.Ext(path) {
		case ".safetensors", ".bin", ".json":
		default:
			return nil
		}
		if d.Name() == data.LabelFile {
			return nil // the command's
		}
		name, _ := filepath.Rel(dir, path)
		b, err := os.ReadFile(path)
		out[name] = string(b)
		return err
	}))
	require.NotEmpty(t, out)
	return out
}

// A program that imports the packages trains what the command trains, byte for byte,
// with every method and task, while it sets nothing.
func TestLibraryTrainsAsTheCommand(t *testing.T) {
	dir := t.TempDir()
	llama, bert, bart := tiny(t), bertFolder(t, "Model", 0), bartFolder(t)
	text := write(t, filepath.Join(dir, "text.jsonl"), evenOdd(70))
	labels := write(t, filepath.Join(dir, "labels.jsonl"), praise(70))
	var pairs strings.Builder
	for i := range 70 {
		a, b := string(rune('a'+i%26)), string(rune('a'+(i*7)%26))
		fmt.Fprintf(&pairs, "{\"source\": \"%s%s%s\", \"target\": \"%s%s\"}\n", a, b, a, b, a)
	}
	source := write(t, filepath.Join(dir, "pairs.jsonl"), pairs.String())
	type run struct {
		model, data, method string
		options             []string // KEY=VALUE
	}
	runs := []run{
		{llama, text, "lora", []string{"r=4", "bias=none"}},
		{llama, text, "prompt-tuning", []string{"num_virtual_tokens=5"}},
		{llama, text, "prompt-tuning", []string{"num_virtual_tokens=5", "prompt_tuning_init_text=Say even or odd"}},
		{llama, text, "prefix-tuning", []string{"num_virtual_tokens=4"}},
		{llama, text, "p-tuning", []string{"num_virtual_tokens=4"}},
		{llama, text, "ia3", nil},
		{llama, text, "full", nil}, // has a weight decay
		{llama, text, "houlsby", nil},
		{llama, text, "vera", []string{"r=8"}},
		{llama, text, "adalora", nil},
		{llama, text, "oft", nil},
		{llama, text, "ln-tuning", nil},
		{llama, text, "eva", nil}, // begins from the data
		{llama, text, "loraplus", []string{"r=4"}},
		{llama, text, "lora+prompt-tuning", []string{"lora.r=4", "num_virtual_tokens=5", "prompt_tuning_init_text=even"}},
		{llama, text, "prompt-tuning+houlsby", []string{"num_virtual_tokens=5"}},
		{bert, labels, "lora", []string{"r=4"}},
		{bert, labels, "bitfit", nil},
		{bert, labels, "prompt-tuning", []string{"num_virtual_tokens=5"}},
		{bart, source, "lora", []string{"r=4"}},
		{bart, source, "prompt-tuning", []string{"num_virtual_tokens=5"}},
		{bart, source, "ia3", nil},
	}
	const steps = 3
	for _, r := range runs {
		name := strings.Join(append([]string{filepath.Base(r.data), r.method}, r.options...), "/")
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "command")
			args := []string{"train", "-m", r.model, "-d", r.data, "-o", out, "--method", r.method, "--max-steps", fmt.Sprint(steps)}
			options := peft.Options{}
			for _, o := range r.options {
				key, value, _ := strings.Cut(o, "=")
				options[key] = value
				args = append(args, "--set", o)
			}
			ok(t, args...)
			require.Equal(t, weights(t, out), weights(t, asLibrary(t, r.model, r.data, r.method, options, steps)))
		})
	}
}
