package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/atomicfile"
)

// bench is a folder of good and of broken inputs.
type bench struct{ dir string }

// newBench fills a folder.
func newBench(t *testing.T) bench {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	copyTo := func(from, to string) {
		require.NoError(t, os.CopyFS(in(to), os.DirFS(from)))
	}
	copyTo(tiny(t), "model")
	copyTo(bertFolder(t, "Model", 0), "encoder")
	write(t, in("good.jsonl"), evenOdd(8))
	write(t, in("labels.jsonl"), praise(8))
	write(t, in("bad.jsonl"), evenOdd(2)+"{\"prompt\": oops}\n")
	write(t, in("fields.jsonl"), "{\"nonesuch\": \"x\"}\n")
	write(t, in("zero.jsonl"), "")
	write(t, in("data.xyz"), "x")
	write(t, in("html.gguf"), "<!DOCTYPE html><html></html>")
	write(t, in("short.gguf"), "GGUF\x03\x00\x00\x00\x05\x00\x00\x00")
	write(t, in("zero.gguf"), "")
	write(t, in("bad.yaml"), "model: [1\n")
	write(t, in("key.yaml"), "modle: x\n")
	write(t, in("tasks.yaml"), "tasks: [{trian: x}]\n")
	write(t, in("other/file"), "x")
	ok(t, "train", "-m", in("model"), "-d", in("good.jsonl"), "-o", in("adapter"), "--max-steps", "1", "--save-steps", "0", "--rank", "2")
	ok(t, "train", "-m", in("model"), "-d", in("good.jsonl"), "-o", in("run"), "--max-steps", "2", "--save-steps", "1", "--rank", "2")

	edit := func(name, file string, change func(b []byte) []byte) {
		b, err := os.ReadFile(in(name + "/" + file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(in(name+"/"+file), change(b), 0o666))
	}
	set := func(key string, v any) func([]byte) []byte {
		return func(b []byte) []byte {
			var m map[string]any
			require.NoError(t, json.Unmarshal(b, &m))
			m[key] = v
			out, err := json.Marshal(m)
			require.NoError(t, err)
			return out
		}
	}
	copyTo(in("model"), "undecodable") // whole numbers in place of weights
	edit("undecodable", "model.safetensors", func(b []byte) []byte {
		require.Contains(t, string(b), `"dtype":"F32"`)
		return bytes.ReplaceAll(b, []byte(`"dtype":"F32"`), []byte(`"dtype":"I32"`))
	})
	copyTo(in("model"), "cut")
	edit("cut", "model.safetensors", func(b []byte) []byte { return b[:len(b)/2] })
	copyTo(in("model"), "family")
	edit("family", "config.json", func(b []byte) []byte {
		return set("model_type", "zzz")(set("architectures", []string{"ZzzForCausalLM"})(b))
	})
	copyTo(in("model"), "misfit")
	edit("misfit", "config.json", set("hidden_size", 64))
	copyTo(in("model"), "untokenized")
	require.NoError(t, os.Remove(in("untokenized/tokenizer.json")))
	copyTo(in("adapter"), "adcut")
	edit("adcut", "adapter_model.safetensors", func(b []byte) []byte { return b[:len(b)/2] })
	copyTo(in("adapter"), "adrank")
	edit("adrank", "adapter_config.json", set("r", "many"))
	copyTo(in("adapter"), "adtype")
	edit("adtype", "adapter_config.json", set("peft_type", "ZORA"))
	copyTo(in("adapter"), "adnone")
	require.NoError(t, os.Remove(in("adnone/adapter_model.safetensors")))
	return bench{dir}
}

// exitCases are command lines that fail, with their codes. A word with a slash in
// front is a file of the bench.
var exitCases = []struct {
	code int
	args string
}{
	{exitUsage, "nonesuch"}, {exitUsage, "trian"}, {exitUsage, "--nonesuch"}, {exitUsage, "help trian"}, {exitUsage, "completion bsh"}, {exitUsage, "version x"},

	// A model: not there, not given, of another kind, not to be read.
	{exitUsage, "generate -p x"}, {exitUsage, "train"}, {exitUsage, "eval -m /model"}, {exitUsage, "classify x"}, {exitUsage, "compare -m /model"}, {exitUsage, "tokenize -p x"},
	{exitUsage, "logits --tokens 1 --json"}, {exitUsage, "convert"}, {exitUsage, "convert /model"}, {exitUsage, "merge-lora"}, {exitUsage, "inspect"}, {exitUsage, "doctor a b"}, {exitUsage, "methods a b"},
	{exitUsage, "MODELCOMMAND /none"}, {exitUsage, "MODELCOMMAND /none.gguf"}, {exitUsage, "RUNCOMMAND /adapter"},
	{exitFormat, "MODELCOMMAND /zero.gguf"}, {exitFormat, "MODELCOMMAND /html.gguf"}, {exitFormat, "MODELCOMMAND /short.gguf"}, {exitFormat, "MODELCOMMAND /cut"},
	{exitFormat, "RUNCOMMAND /undecodable"}, {exitFormat, "RUNCOMMAND /family"}, {exitFormat, "RUNCOMMAND /misfit"}, {exitFormat, "RUNCOMMAND /untokenized"},
	{exitFormat, "doctor /undecodable"}, {exitFormat, "doctor /family"}, {exitFormat, "convert /untokenized -o /x.gguf"}, {exitFormat, "methods -m /undecodable"},
	{exitUsage, "generate -m /encoder -p x"}, {exitUsage, "classify -m /model x"},

	// An adapter.
	{exitUsage, "ADAPTERCOMMAND /none"}, {exitUsage, "LORACOMMAND /model"}, {exitUsage, "doctor /model -m /model"},
	{exitFormat, "ADAPTERCOMMAND /adcut"}, {exitFormat, "ADAPTERCOMMAND /adnone"}, {exitFormat, "LORACOMMAND /adrank"}, {exitFormat, "LORACOMMAND /adtype"}, {exitFormat, "doctor /adtype -m /model"},
	{exitUsage, "generate -m /model --lora /adapter:x -p x"}, {exitFormat, "generate -m /encoder --lora /adapter -p x"}, {exitFormat, "merge-lora -m /encoder --lora /adapter -o /x.gguf"},

	// Data.
	{exitData, "DATACOMMAND /none.jsonl"}, {exitData, "DATACOMMAND /none"}, {exitData, "DATACOMMAND /bad.jsonl"}, {exitData, "DATACOMMAND /fields.jsonl"}, {exitData, "DATACOMMAND /zero.jsonl"},
	{exitData, "DATACOMMAND /data.xyz"}, {exitData, "DATACOMMAND /other"},
	{exitData, "train -m /model -d /good.jsonl -o /x --valid /none.jsonl"}, {exitData, "train -m /model -d /good.jsonl -o /x --valid /zero.jsonl"},
	{exitData, "compare -m /model -d /none.jsonl"}, {exitData, "compare -m /model -d /none.yaml"}, {exitData, "compare -m /model -d /good.jsonl --eval /none.jsonl"}, {exitData, "compare -m /model -d /good.jsonl --keep /none.jsonl"},
	{exitUsage, "compare -m /model -d /tasks.yaml"}, {exitUsage, "compare -m /model -d /good.jsonl --methods lroa"}, {exitUsage, "compare -m /model -d /good.jsonl --seeds 0"},

	// Settings.
	{exitUsage, "TRAIN --rnak 3"}, {exitUsage, "TRAIN --epochs many"}, {exitUsage, "TRAIN --epochs 1 --max-steps 3"}, {exitUsage, "TRAIN --lr 0"}, {exitUsage, "TRAIN --lr nan"}, {exitUsage, "TRAIN --schedule zigzag"},
	{exitUsage, "TRAIN --method lroa"}, {exitUsage, "TRAIN --method qlora"}, {exitUsage, "TRAIN --set rnak=3"}, {exitUsage, "TRAIN --set rank"}, {exitUsage, "TRAIN --target-modules q_prj"}, {exitUsage, "TRAIN --method bitfit"},
	{exitUsage, "TRAIN --rank -3"}, {exitUsage, "TRAIN --threads -1"}, {exitUsage, "TRAIN --val-split 2"}, {exitUsage, "TRAIN --max-seq-len 1"}, {exitUsage, "TRAIN --chat-template /none"}, {exitUsage, "TRAIN --map x"},
	{exitUsage, "TRAIN --resume=/none"}, {exitUsage, "TRAIN --resume"}, {exitUsage, "TRAIN -c /none.yaml"}, {exitUsage, "TRAIN -c /bad.yaml"}, {exitUsage, "TRAIN -c /key.yaml"}, {exitUsage, "TRAIN extra"},
	{exitUsage, "generate -m /model -p x --temp -1"}, {exitUsage, "generate -m /model -p x -n -1"}, {exitUsage, "generate -m /model -p x --chat-template /none"}, {exitUsage, "generate -m /model -p x --raw --system x"}, {exitUsage, "generate -m /model -p x --task-id 1"},
	{exitUsage, "eval -m /model -d /good.jsonl --limit -1"}, {exitUsage, "eval -m /model -d /good.jsonl --answers x"}, {exitUsage, "eval -m /model -d /good.jsonl --part tset"}, {exitUsage, "eval -m /encoder -d /labels.jsonl --exact-match"},
	{exitUsage, "inspect /model --get nonesuch"}, {exitUsage, "methods lroa"}, {exitUsage, "plugins lroa"}, {exitUsage, "doctor -m /model"}, {exitUsage, "logits -m /model --json"}, {exitUsage, "logits -m /model --tokens 1,999 --json"},
	{exitUsage, "convert /model -o /x.gguf -q q9"}, {exitUsage, "convert /model -o /x --to nonesuch"}, {exitUsage, "convert /model -o /x -q q4_0"}, {exitUsage, "convert /adapter -o /x.gguf --base /none"},

	// Outputs.
	{exitUsage, "convert /model -o /model"}, {exitUsage, "convert /model -o /good.jsonl"}, {exitUsage, "convert /model -o /good.jsonl/x"}, {exitUsage, "convert /model -o /none/x.gguf"}, {exitUsage, "convert /model -o /other"}, {exitUsage, "convert /model -o /model/sub"},
	{exitUsage, "merge-lora -m /model --lora /adapter -o /adapter"}, {exitUsage, "merge-lora -m /model --lora /adapter -o /good.jsonl/x.gguf"},
	{exitUsage, "train -m /model -d /good.jsonl -o /good.jsonl"}, {exitUsage, "train -m /model -d /good.jsonl -o /good.jsonl/x"}, {exitUsage, "train -m /model -d /good.jsonl -o /model"}, {exitUsage, "train -m /model -d /good.jsonl -o /adapter"}, {exitUsage, "train -m /model -d /good.jsonl -o /run"},
	{exitFormat, "train -m /model -d /good.jsonl -o /run --resume --rank 4"},
	{exitUsage, "eval -m /model -d /good.jsonl --exact-match --answers /other"}, {exitUsage, "eval -m /model -d /good.jsonl --exact-match --answers /none/x"},
	{exitUsage, "compare -m /model -d /good.jsonl -o /good.jsonl"}, {exitUsage, "demo --dir /good.jsonl"}, {exitUsage, "logits -m /model --tokens 1 -o /none/x.safetensors"},
}

// commandsOf are the command lines that a word of exitCases stands for.
var commandsOf = map[string][]string{
	"MODELCOMMAND": {"generate -p x -m", "train -d /good.jsonl -o /x -m", "eval -d /good.jsonl -m", "classify x -m", "compare -d /good.jsonl -m", "tokenize -p x -m", "logits --tokens 1 --json -m", "methods -m", "inspect", "doctor", "convert -o /x.gguf", "merge-lora --lora /adapter -o /x.gguf -m"},
	"RUNCOMMAND":   {"generate -p x -m", "train -d /good.jsonl -o /x -m", "eval -d /good.jsonl -m", "classify x -m", "logits --tokens 1 --json -m", "methods -m"},
	"LORACOMMAND":  {"generate -m /model -p x --lora", "eval -m /model -d /good.jsonl --lora", "merge-lora -m /model -o /x.gguf --lora", "train -m /model -d /good.jsonl -o /x --init-adapter", "logits -m /model --tokens 1 --json --lora"},
	"ADAPTERCOMMAND": {"generate -m /model -p x --lora", "eval -m /model -d /good.jsonl --lora", "merge-lora -m /model -o /x.gguf --lora", "train -m /model -d /good.jsonl -o /x --init-adapter", "logits -m /model --tokens 1 --json --lora",
		"convert -o /x --base /model", "inspect", "doctor -m /model"},
	"DATACOMMAND": {"train -m /model -o /x -d", "eval -m /model -d", "train -m /encoder -o /x -d", "eval -m /encoder -d"},
	"TRAIN":       {"train -m /model -d /good.jsonl -o /x"},
}

// expand writes out the command lines of a case.
func (b bench) expand(args string) [][]string {
	words := strings.Fields(args)
	lines := [][]string{nil}
	if of := commandsOf[words[0]]; of != nil {
		lines = nil
		for _, c := range of {
			lines = append(lines, strings.Fields(c))
		}
		words = words[1:]
	}
	for i, l := range lines {
		l = append(l, words...)
		for k, w := range l {
			if name, ok := strings.CutPrefix(w, "/"); ok {
				l[k] = filepath.Join(b.dir, name)
			} else if flag, name, ok := strings.Cut(w, "=/"); ok {
				l[k] = flag + "=" + filepath.Join(b.dir, name)
			}
		}
		lines[i] = l
	}
	return lines
}

// All failures of all commands: the code that docs/cli.md names, a message that says
// no path twice, each error on a line of its own, and a hint that can be followed.
func TestExitCodesOfAllCommands(t *testing.T) {
	t.Setenv("PEFTKIT_TEST_MAIN", "1") // runs of compare are processes
	b := newBench(t)
	covered := map[string]bool{}
	for _, c := range exitCases {
		for _, args := range b.expand(c.args) {
			line := strings.ReplaceAll(strings.Join(args, " "), b.dir+"/", "/")
			covered[args[0]] = true
			t.Run(line, func(t *testing.T) {
				o := cli(t, args...)
				require.Equal(t, c.code, o.code, "%s\n%s", o.out, o.errors)
				if o.errors == "" {
					require.Equal(t, "doctor", args[0], "only findings go to standard output")
					return
				}
				b.checkMessage(t, o.errors)
			})
		}
	}
	a := &app{out: newStream(io.Discard), err: newStream(io.Discard)}
	for _, c := range a.root().Commands() {
		require.True(t, covered[c.Name()] || c.Name() == "compare-run", "no failing command line of %s", c.Name())
	}
}

var errorHead = regexp.MustCompile(`(?m)^error: (.*)$`)

// checkMessage looks at how an error reads.
func (b bench) checkMessage(t *testing.T, text string) {
	t.Helper()
	for _, m := range errorHead.FindAllStringSubmatch(text, -1) {
		paths := map[string]int{}
		for _, word := range strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune(" \"',;()", r) }) {
			if at := strings.Index(word, b.dir); at >= 0 {
				path, _, _ := strings.Cut(strings.TrimPrefix(word[at:], b.dir+"/"), ":")
				top, _, _ := strings.Cut(path, "/")
				paths[top]++
			}
		}
		for p, n := range paths {
			require.Equal(t, 1, n, "%s stands %d times: %s", p, n, m[1])
		}
	}
	require.NotContains(t, text, "strconv")
	for _, r := range text {
		require.True(t, r == '\n' || !unicode.IsControl(r), "%q", text)
	}
	require.LessOrEqual(t, strings.Count(text, "error: "), 1, text)
}

// What does not come from peftkit's own files: a full disk, an end that the user asks for.
func TestExitCodesOfTheSystem(t *testing.T) {
	b := newBench(t)
	in := func(name string) string { return filepath.Join(b.dir, name) }
	writers := [][]string{
		{"convert", in("model"), "-o", in("x.gguf")},
		{"convert", in("adapter"), "-o", in("x"), "--to", "peft"},
		{"merge-lora", "-m", in("model"), "--lora", in("adapter"), "-o", in("x.gguf")},
		{"train", "-m", in("model"), "-d", in("good.jsonl"), "-o", in("x"), "--max-steps", "1"},
		{"logits", "-m", in("model"), "--tokens", "1", "-o", in("x.safetensors")},
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		t.Cleanup(atomicfile.SetFault(func(op atomicfile.Op, path string) error {
			if op == atomicfile.OpWrite {
				return &os.PathError{Op: "write", Path: path, Err: full}
			}
			return nil
		}))
		for _, args := range writers {
			o := cli(t, args...)
			require.Equal(t, exitResources, o.code, "%v: %s", args, o.errors)
			b.checkMessage(t, o.errors)
		}
	}
	t.Cleanup(atomicfile.SetFault(func(atomicfile.Op, string) error { return nil }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range append(writers,
		[]string{"eval", "-m", in("model"), "-d", in("good.jsonl")}, []string{"generate", "-m", in("model"), "-p", "x"}, []string{"classify", "-m", in("encoder"), "--task", "seq-cls", "x"},
		[]string{"doctor", in("model")}, []string{"methods", "-m", in("model")}, []string{"compare", "-m", in("model"), "-d", in("good.jsonl"), "--methods", "none"}) {
		var out, errs bytes.Buffer
		require.Equal(t, exitInterrupted, Execute(ctx, args, nil, &out, &errs), "%v: %s", args, errs.String())
	}
	// Results that do not arrive are not silently lost.
	var errs bytes.Buffer
	require.Equal(t, exitResources, Execute(t.Context(), []string{"plugins"}, nil, fullDisk{}, &errs))
	require.Contains(t, errs.String(), "no space left")
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What users and files write never begins a line of an error.
func TestValuesOnOneLine(t *testing.T) {
	b := newBench(t)
	in := func(name string) string { return filepath.Join(b.dir, name) }
	data, m := in("good.jsonl"), in("model")
	odd := "a\nb\x1b[31mc\rd"
	config := write(t, in("odd.yaml"), "\"ra\\nnk\": 3\n")
	options := "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"text\": \"" + strings.Repeat("long ", 200) + "\"\n}"
	for _, args := range [][]string{
		{odd}, {"inspect", odd}, {"inspect", odd + ".gguf"}, {"inspect", m, "--get", odd}, {"doctor", odd}, {"generate", "-m", odd, "-p", "x"}, {"generate", "-m", m, "-p", "x", "--lora", odd},
		{"train", "--" + odd}, {"train", odd}, {"train", "-m", m, "-d", odd}, {"train", "-m", m, "-d", data, "--method", odd}, {"train", "-m", m, "-d", data, "--target-modules", odd},
		{"train", "-m", m, "-d", data, "-o", in("x"), "--set", odd + "=1"}, {"train", "-m", m, "-d", data, "--schedule", odd}, {"train", "-m", m, "-d", data, "--lr", odd}, {"train", "-c", config}, {"train", "-c", odd},
		{"train", "-m", m, "-d", data, "-o", in("x"), "--set", "rank_pattern=" + options}, {"train", "-m", m, "-d", data, "-o", in("x"), "--set", "r=" + options}, {"train", "-m", m, "-d", data, "-o", in("x"), "--set", "target_modules=" + options},
		{"train", "-m", m, "-d", data, "-o", in("x"), "--resume=" + odd}, {"train", "-m", m, "-d", data, "--map", odd}, {"train", "-m", m, "-d", data, "--chat-template", odd},
		{"convert", m, "-o", in("x.gguf"), "-q", odd}, {"convert", m, "-o", in("x"), "--to", odd}, {"convert", m, "-o", odd + "/x.gguf"}, {"compare", "-m", m, "-d", odd}, {"compare", "-m", m, "-d", data, "--methods", odd},
		{"compare", "-m", m, "-d", data, "--lr", odd}, {"eval", "-m", m, "-d", data, "--exact-match", "--answers", odd + "/x"}, {"logits", "-m", m, "--tokens", odd, "--json"}, {"methods", odd}, {"tokenize", "-m", m, "--file", odd},
	} {
		o := cli(t, args...)
		require.NotZero(t, o.code, "%q", args)
		b.checkMessage(t, o.errors)
		labels := regexp.MustCompile(`^(error: |warning: |  (found|expected|try|help) )`)
		for _, l := range strings.Split(strings.TrimRight(o.errors, "\n"), "\n") {
			require.Regexp(t, labels, l, "%q: %s", args, o.errors)
			require.LessOrEqual(t, len(l), 1500, "%q", args)
		}
	}
}

// A word that is nearly right is asked for, one of other tools is explained.
func TestDidYouMean(t *testing.T) {
	b := newBench(t)
	for args, want := range map[string]string{
		"trian": `did you mean "train"`, "infer": "", "mereg": `did you mean "merge"`,
		"TRAIN --method lroa": `did you mean "lora"`, "TRAIN --method LoRa_fa2": `did you mean "lora`, "TRAIN --method qlora": "QLoRA is lora", "TRAIN --method prompt_tunning": `did you mean "prompt`,
		"TRAIN --method dpo": "preferences", "TRAIN --method lora+prmpt-tuning": `did you mean "prompt-tuning"`,
		"TRAIN --target-modules q_prj": `did you mean "q_proj"`, "TRAIN --target-modules q_proj,v_porj": `did you mean "v_proj"`, "TRAIN --target-modules self_attn.k_prj": `did you mean "k_proj"`,
		"TRAIN --set use_rslroa=true": `did you mean "use_rslora"`, "TRAIN --method lora+ia3 --set use_rslroa=true": `did you mean "use_rslora"`, "TRAIN --set lora.lora_alhpa=3": `did you mean "lora_alpha"`,
		"TRAIN --rnak 3": "did you mean --rank", "TRAIN --learnig-rate 3": "did you mean --learning-rate", "TRAIN --target-moduls x": "did you mean --target-modules", "TRAIN --optim adamw": "AdamW", "TRAIN --load-in-4bit": "QLoRA is lora",
		"TRAIN --schedule cosin": `did you mean "cosine"`, "TRAIN --schedule liner": `did you mean "linear"`, "TRAIN --schedule constant_with_warmup": "constant, with --warmup",
		"TRAIN --task seqcls": `did you mean "seq-cls"`, "TRAIN --task text-classification": "did you mean seq-cls", "TRAIN --problem singel-label": `did you mean "single-label"`, "TRAIN --train-on asistant": `did you mean "assistant"`,
		"convert /model -o /x.gguf -q q8": `did you mean "q8_0"`, "convert /model -o /x.gguf -q q4_O": `did you mean "Q4_0"`, "convert /model -o /x.gguf -q fp16": `did you mean "f16"`, "convert /model -o /x.gguf -q q4_k_m": "llama-quantize",
		"convert /model -o /x --to safetensor": `did you mean "safetensors"`, "convert /model -o /x --to ggfu": `did you mean "gguf"`, "inspect /model --get vocab_szie": `did you mean "vocab_size"`,
		"methods lroa": `did you mean "lora"`, "plugins prefx-tuning": `did you mean "prefix-tuning"`, "compare -m /model -d /good.jsonl --methods none,lroa": `did you mean "lora"`, "eval --part tset -m /model": `did you mean "test"`,
		"help trian": `did you mean "train"`, "completion bsh": `did you mean "bash"`, "merge-lora --quantise q8_0": "did you mean --quantize",
	} {
		for _, line := range b.expand(args) {
			o := cli(t, line...)
			require.Equal(t, exitUsage, o.code, "%s: %s", args, o.errors)
			require.Contains(t, o.errors, want, args)
			if strings.Contains(want, "QLoRA") {
				require.NotContains(t, o.errors, "did you mean")
			}
		}
	}
	// The words of other tools are none of ours, or there would be no need of them.
	a := &app{out: newStream(io.Discard), err: newStream(io.Discard)}
	for _, c := range a.root().Commands() {
		for name := range otherFlags {
			if c.Name() == "train" {
				require.Nil(t, c.Flags().Lookup(name), name)
			}
		}
	}
	for word := range otherMethods {
		o := cli(t, "methods", word)
		require.Equal(t, exitUsage, o.code, word)
		require.Contains(t, o.errors, otherMethods[word])
	}
}

// The help of flags that many methods have speaks of LoRA first, with its default.
func TestHelpOfMethodFlags(t *testing.T) {
	text := strings.Join(strings.Fields(ok(t, "train", "--help")), " ")
	require.Regexp(t, `--rank N lora: [^()]*\(default 16\)`, text)
	require.Regexp(t, `--alpha X lora: [^()]*alpha/sqrt\(rank\)[^()]*\(default 32\)`, text)
	require.Regexp(t, `--dropout X lora: [^()]*\(default 0\)`, text)
	require.Contains(t, text, "--virtual-tokens N prompt-tuning: ")
}
