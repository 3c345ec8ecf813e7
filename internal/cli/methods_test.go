package cli

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/peft"
)

func TestMethods(t *testing.T) {
	var rows []methodRow
	jsonOf(t, &rows, "methods")
	require.Len(t, rows, len(peft.Methods()))
	text := ok(t, "methods")
	for _, r := range rows {
		require.Contains(t, text, r.Name)
		require.Contains(t, text, citation(r.Reference))
		one := ok(t, "methods", r.Name)
		require.Contains(t, one, "peftkit train -m MODEL -d DATA -o adapters --method "+r.Name)
		require.Contains(t, one, r.Reference)
		require.Contains(t, one, floatText(r.LearningRate))
		require.Nil(t, r.Trainable)
		if r.NotMergeable != "" {
			require.False(t, r.Merges)
			require.Contains(t, one, r.NotMergeable)
		}
	}
	require.Contains(t, ok(t, "methods", "lora+ia3"), "the others keep their ratio")
	require.Contains(t, ok(t, "methods", "mam"), "a number, learned or channel (default 4)", "of its preset")
	require.Contains(t, ok(t, "methods", "houlsby"), "a trained norm after it (default false)", "of the library")
	require.Equal(t, exitUsage, cli(t, "methods", "nonesuch").code)

	base := bertFolder(t, "Model", 0)
	o := cli(t, "methods", "-m", base, "--json")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, "the model is a bare bert")
	jsonOf(t, &rows, "methods", "-m", base, "--task", "seq-cls", "--labels", "a,b,c")
	list := ok(t, "methods", "-m", base)
	for _, l := range strings.Split(list+text+ok(t, "plugins"), "\n") {
		if !strings.Contains(l, base) && !strings.HasPrefix(l, "Explain one") {
			require.LessOrEqual(t, textLen(l), tableWidth, l)
		}
	}
	words := strings.Join(strings.Fields(list), " ")
	for _, r := range rows {
		if r.Problem != "" {
			first, _, _ := strings.Cut(r.Problem, ": "+peft.ErrNoFit.Error())
			first, _, _ = strings.Cut(first, ": "+peft.ErrConfig.Error())
			require.Contains(t, words, "does not fit: "+first)
			continue
		}
		require.Positive(t, *r.Trainable, r.Name)
		require.Positive(t, *r.Share, r.Name)
	}
}

// Every method trains with nothing but a model and data.
func TestEveryMethodTrains(t *testing.T) {
	llama, bert, bart := tiny(t), bertFolder(t, "Model", 0), bartFolder(t)
	dir := t.TempDir()
	pairs := write(t, filepath.Join(dir, "p.jsonl"), evenOdd(20))
	labels := write(t, filepath.Join(dir, "l.jsonl"), praise(20))
	letters := write(t, filepath.Join(dir, "s.jsonl"), strings.Repeat(`{"source":"abc","target":"bcd"}`+"\n", 20))
	names := []string{"lora+ia3"}
	for _, m := range peft.Methods() {
		names = append(names, m.Info().Name)
	}
	for _, c := range []struct{ kind, model, data string }{{"decoder", llama, pairs}, {"encoder", bert, labels}, {"both", bart, letters}} {
		for _, name := range names {
			t.Run(c.kind+" "+name, func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "a")
				args := []string{"train", "-m", c.model, "-d", c.data, "-o", out, "--method", name, "--max-steps", "2", "--max-seq-len", "16", "--save-steps", "0"}
				if m, err := peft.ByName(name); err == nil { // the test models have 32 features
					for _, o := range m.Info().Options {
						if n, err := strconv.ParseFloat(fmt.Sprint(o.Default), 64); err == nil && n > 16 && (o.Key == "r" || o.Key == "reduction_factor") {
							args = append(args, "--set", o.Key+"=4")
						}
						if o.Key == "n_frequency" {
							args = append(args, "--set", o.Key+"=16")
						}
					}
				}
				o := cli(t, args...)
				if o.code == exitUsage || o.code == exitFormat {
					require.Regexp(t, "does not fit|choose another|adapters is empty", o.errors, "a method that does not fit says so, or what would make it fit")
					return
				}
				require.Zero(t, o.code, o.errors)
				e := evaluate(t, "-m", c.model, "--lora", out, "-d", c.data, "--max-seq-len", "16")
				require.NotNil(t, e.Loss, fmt.Sprint(e))
			})
		}
	}
}

// With a model and data alone each method trains on a decoder, or says what is in
// the way: the few defaults that are larger than the test model allows.
func TestEveryMethodAlone(t *testing.T) {
	base := tiny(t)
	pairs := write(t, filepath.Join(t.TempDir(), "p.jsonl"), evenOdd(20))
	refused := map[string]string{"bitfit": "ln-tuning", "fourierft": "n_frequency", "miss": "r is 64", "olora": "rank 32 exceeds", "psoft": "r is 32", "road": "group_size", "shira": "r 32", "waveft": "n_frequency", "xlora": "adapters is empty"}
	for _, m := range peft.Methods() {
		name := m.Info().Name
		t.Run(name, func(t *testing.T) {
			o := cli(t, "train", "-m", base, "-d", pairs, "-o", filepath.Join(t.TempDir(), "a"), "--method", name, "--max-steps", "2")
			if o.code != 0 {
				require.NotEmpty(t, refused[name], o.errors)
				require.Contains(t, o.errors, refused[name])
			}
		})
	}
}

func TestCitation(t *testing.T) {
	for reference, want := range map[string]string{
		"Hu et al. 2021, arXiv 2106.09685; rsLoRA: arXiv 2312.03732": "Hu et al. 2021",
		"FedPara, Hyeon-Woo et al. 2022, arXiv 2108.06098":           "Hyeon-Woo et al. 2022",
		"Hugging Face PEFT, TrainableTokensConfig":                   "Hugging Face PEFT",
		"Mangrulkar": "Mangrulkar",
	} {
		require.Equal(t, want, citation(reference))
	}
}

func TestWrappedTable(t *testing.T) {
	var b strings.Builder
	tab := newTable(&stream{w: &b}, "name", "|text", ">n")
	tab.title("first")
	tab.row("a", strings.Repeat("word ", 40)+"end", "7")
	tab.title("second")
	tab.row("b", "short", "12")
	tab.print()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	require.Equal(t, []string{"first", "second"}, []string{lines[1], lines[5]})
	require.Contains(t, lines[2], " 7")
	for _, l := range lines {
		require.LessOrEqual(t, len(l), tableWidth)
	}
	require.Equal(t, strings.Index(lines[2], "word"), strings.Index(lines[3], "word"))
}
