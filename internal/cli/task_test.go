package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// folder writes a model of memory to disk with a tokenizer.
func folder(t *testing.T, m *formats.Model, files map[string]any) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	o := &formats.OutModel{Config: m.Config, Files: map[string][]byte{}}
	for name, v := range files {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		o.Files[name] = b
	}
	for _, x := range m.Tensors {
		v, err := x.AllFloats()
		require.NoError(t, err)
		o.Tensors = append(o.Tensors, floatTensor(x.Name, x.Shape, v))
	}
	f, err := formats.ByName("safetensors")
	require.NoError(t, err)
	require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), dir, o))
	return dir
}

func floatTensor(name string, shape []int, v []float32) formats.OutTensor {
	return formats.OutTensor{Name: name, Type: tensor.F32, Shape: shape, WriteTo: func(w io.Writer) error { return peft.WriteFloats(w, tensor.F32, v) }}
}

type object = map[string]any

func special(words ...string) (added []object, vocab object) {
	vocab = object{}
	for i, w := range words {
		added = append(added, object{"id": i, "content": w, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
		vocab[w] = i
	}
	return added, vocab
}

// bertFolder is a bare BertModel that knows a few words.
func bertFolder(t *testing.T, task string, labels int) string {
	t.Helper()
	return bertFolderOf(t, testmodel.Encoder{Family: "bert", Task: task, Labels: labels, Seed: 2}.HF())
}

// bertFolderOf gives a BERT of memory the tokenizer of bertFolder.
func bertFolderOf(t *testing.T, m *formats.Model) string {
	t.Helper()
	added, vocab := special("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
	for _, w := range strings.Fields("a the film is was good fine great warm bad dull poor cold and not very it day night ##s ##ly . ! ?") {
		vocab[w] = len(vocab)
	}
	for i := len(vocab); i < 48; i++ {
		vocab[fmt.Sprintf("unused%d", i)] = i
	}
	piece := func(s string) object { return object{"SpecialToken": object{"id": s, "type_id": 0}} }
	text := func(s string, n int) object { return object{"Sequence": object{"id": s, "type_id": n}} }
	return folder(t, m, map[string]any{
		"tokenizer.json": object{
			"version": "1.0", "added_tokens": added,
			"normalizer":    object{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
			"pre_tokenizer": object{"type": "BertPreTokenizer"}, "decoder": object{"type": "WordPiece", "prefix": "##", "cleanup": true},
			"post_processor": object{"type": "TemplateProcessing",
				"single": []object{piece("[CLS]"), text("A", 0), piece("[SEP]")},
				"pair":   []object{piece("[CLS]"), text("A", 0), piece("[SEP]"), text("B", 1), {"SpecialToken": object{"id": "[SEP]", "type_id": 1}}},
				"special_tokens": object{"[CLS]": object{"id": "[CLS]", "ids": []int{2}, "tokens": []string{"[CLS]"}},
					"[SEP]": object{"id": "[SEP]", "ids": []int{3}, "tokens": []string{"[SEP]"}}}},
			"model": object{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
		},
		"tokenizer_config.json": object{"tokenizer_class": "BertTokenizerFast"},
	})
}

// bartFolder is an encoder-decoder whose tokens are letters.
func bartFolder(t *testing.T) string {
	t.Helper()
	added, vocab := special("<pad>", "</s>", "<s>")
	for c := 'a'; c <= 'z'; c++ {
		vocab[string(c)] = len(vocab)
	}
	vocab["Ġ"] = len(vocab)
	for i := len(vocab); i < 48; i++ {
		vocab[fmt.Sprintf("unused%d", i)] = i
	}
	byteLevel := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	text := []object{{"Sequence": object{"id": "A", "type_id": 0}}, {"SpecialToken": object{"id": "</s>", "type_id": 0}}}
	return folder(t, testmodel.BART().HF(), map[string]any{
		"tokenizer.json": object{"version": "1.0", "added_tokens": added, "pre_tokenizer": byteLevel, "decoder": byteLevel,
			"post_processor": object{"type": "TemplateProcessing", "single": text, "pair": append(text, text...),
				"special_tokens": object{"</s>": object{"id": "</s>", "ids": []int{1}, "tokens": []string{"</s>"}}}},
			"model": object{"type": "BPE", "vocab": vocab, "merges": []string{}}},
		"tokenizer_config.json": object{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>", "bos_token": "<s>"},
	})
}

// praise is data whose label follows from single words.
func praise(n int) string {
	var b strings.Builder
	good, bad := strings.Fields("good fine great warm"), strings.Fields("bad dull poor cold")
	for i := range n {
		word, label := good[i/2%4], "pos"
		if i%2 == 1 {
			word, label = bad[i/2%4], "neg"
		}
		fmt.Fprintf(&b, "{\"text\": \"%s film is very %s%s\", \"label\": \"%s\"}\n", []string{"the", "a"}[i/3%2], word, []string{"", " .", "!"}[i%3], label)
	}
	return b.String()
}

func TestClassifier(t *testing.T) {
	dir, base := t.TempDir(), bertFolder(t, "Model", 0)
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("data/train.jsonl"), praise(64))
	write(t, in("data/test.jsonl"), praise(24))
	o := cli(t, "train", "-m", base, "-d", in("data"), "-o", in("adapter"), "--lr", "0.01", "--epochs", "8")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, "the data (text/label) make it text classification")
	require.Contains(t, o.out, "text classification, 2 labels; new head: classifier")
	require.Contains(t, o.out, "16 × 1 sequences")
	require.Contains(t, o.out, "attention_probs_dropout_prob 0.1, hidden_dropout_prob 0.1")
	require.Contains(t, read(t, in("adapter/README.md")), "| dropout | attention_probs_dropout_prob 0.1, hidden_dropout_prob 0.1 |")
	require.Contains(t, o.out, "peftkit classify -m")
	labels, problem, err := data.ReadLabels([]byte(read(t, in("adapter/label_map.json"))))
	require.NoError(t, err)
	require.Equal(t, []string{"neg", "pos"}, labels)
	require.Equal(t, model.SingleLabel, problem)
	require.Contains(t, read(t, in("adapter/README.md")), "pipeline_tag: text-classification")

	e := evaluate(t, "-m", base, "--lora", in("adapter"), "-d", in("data"))
	require.Equal(t, model.SequenceClassification, e.Task)
	require.Equal(t, "accuracy", e.Metric)
	require.Greater(t, *e.Score, 0.95)
	require.Equal(t, *e.Score, *e.Metrics["accuracy"])
	require.Contains(t, e.Metrics, "matthews")
	require.Nil(t, e.Perplexity)
	text := ok(t, "eval", "-m", base, "--lora", in("adapter"), "-d", in("data"))
	require.Contains(t, text, "of 24 examples")
	require.Contains(t, text, "Matthews correlation")

	one := ok(t, "classify", "-m", base, "--adapter", in("adapter"), "the film was great")
	require.Regexp(t, `(?s)pos\s+\d.*neg`, one)
	lines := cliInput(t, "a great day\n\nthe film is very dull\n", "classify", "-m", base, "--lora", in("adapter"), "--json")
	require.Zero(t, lines.code, lines.errors)
	got := strings.Split(strings.TrimSpace(lines.out), "\n")
	require.Len(t, got, 2)
	var c classified
	require.NoError(t, json.Unmarshal([]byte(got[1]), &c))
	require.Equal(t, "neg", c.Label)
	require.Equal(t, "the film is very dull", c.Text)
	require.InDelta(t, 1, c.Scores["neg"]+c.Scores["pos"], 1.001e-6) // two numbers of six digits, each rounded by half of the last

	var l struct {
		Tokens []int32
		Labels []string
		Logits [][]float64
	}
	jsonOf(t, &l, "logits", "-m", base, "--lora", in("adapter"), "--text", "a great day", "--text-pair", "it is")
	require.Len(t, l.Logits, 1)
	require.Len(t, l.Logits[0], 2)
	require.Equal(t, []string{"neg", "pos"}, l.Labels)
	require.Len(t, l.Tokens, 3+2+3)

	// Without the adapter the head is drawn and means nothing.
	o = cli(t, "eval", "-m", base, "-d", in("data"))
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, "the head is untrained")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"classify", "-m", base, "x"}, "no head"},
		{[]string{"generate", "-m", base, "--lora", in("adapter"), "-p", "x"}, "writes no text"},
		{[]string{"eval", "-m", base, "--lora", in("adapter"), "-d", in("data"), "--exact-match"}, "writes no text"},
		{[]string{"train", "-m", base, "-d", in("data"), "-o", in("b"), "--labels", "yes,no"}, `label "pos"`},
		{[]string{"train", "-m", base, "-d", in("data"), "-o", in("b"), "--labels", "yes,yes"}, "given twice"},
		{[]string{"train", "-m", base, "-d", in("data"), "-o", in("b"), "--task", "causal-lm"}, "which has SEQ_CLS"},
	} {
		o := cli(t, c.args...)
		require.NotZero(t, o.code)
		require.Contains(t, o.errors, c.want, "%v", c.args)
	}
	// A run is resumed with its head.
	args := []string{"train", "-m", base, "-d", in("data"), "-o", in("c"), "--max-steps", "4", "--save-steps", "2"}
	ok(t, args...)
	want := read(t, in("c/adapter_model.safetensors"))
	require.NoError(t, os.RemoveAll(in("c/checkpoint-4")))
	ok(t, append(args, "--resume")...)
	require.Equal(t, want, read(t, in("c/adapter_model.safetensors")), "with the dropout of the base")
	o = cli(t, append(args, "--resume", "--no-base-dropout")...)
	require.NotZero(t, o.code)
	require.Contains(t, o.errors, "base-dropout: true then, false now")
	out := ok(t, append(args, "--overwrite", "--no-base-dropout")...)
	require.Contains(t, out, "none of the base model's")
	require.NotEqual(t, want, read(t, in("c/adapter_model.safetensors")))
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

// A checkpoint that is a classifier brings its labels; numbers mean them.
func TestTrainedClassifier(t *testing.T) {
	base := bertFolder(t, "ForSequenceClassification", 3)
	path := write(t, filepath.Join(t.TempDir(), "d.tsv"), "good film\t2\nbad film\t0\n")
	e := evaluate(t, "-m", base, "-d", path, "--columns", "text,label")
	require.Equal(t, model.SequenceClassification, e.Task)
	text := ok(t, "classify", "-m", base, "good film", "bad film")
	require.Regexp(t, `class-\d +\d+\.\d % +good film`, text)
	o := cli(t, "eval", "-m", base, "-d", write(t, filepath.Join(t.TempDir(), "e.tsv"), "good\tx\nbad\ty\n"), "--columns", "text,label")
	require.NotZero(t, o.code)
	require.Contains(t, o.errors, "head of 2 labels")
}

func TestSeveralLabelsAndNumbers(t *testing.T) {
	base, dir := bertFolder(t, "Model", 0), t.TempDir()
	many := write(t, filepath.Join(dir, "many.jsonl"), strings.Repeat(`{"text":"good day","labels":["day","good"]}`+"\n"+`{"text":"bad night","labels":["bad"]}`+"\n", 16))
	ok(t, "train", "-m", base, "-d", many, "-o", filepath.Join(dir, "a"), "--lr", "0.01", "--epochs", "10")
	var c classified
	jsonOf(t, &c, "classify", "-m", base, "--lora", filepath.Join(dir, "a"), "good day")
	require.Equal(t, []string{"day", "good"}, c.Labels)
	require.Contains(t, ok(t, "classify", "-m", base, "--lora", filepath.Join(dir, "a"), "good day", "bad night"), "day, good")
	e := evaluate(t, "-m", base, "--lora", filepath.Join(dir, "a"), "-d", many)
	require.Equal(t, "f1", e.Metric)
	require.Equal(t, 1.0, *e.Score)

	numbers := write(t, filepath.Join(dir, "n.jsonl"), strings.Repeat(`{"text":"good day","label":4.5}`+"\n"+`{"text":"bad night","label":1}`+"\n", 16))
	ok(t, "train", "-m", base, "-d", numbers, "-o", filepath.Join(dir, "b"), "--lr", "0.02", "--epochs", "20")
	c = classified{}
	jsonOf(t, &c, "classify", "-m", base, "--lora", filepath.Join(dir, "b"), "good day")
	require.InDelta(t, 4.5, c.Values[0], 0.7) // nearer to 4.5 than to the other label, 1: learnt, not computed
	e = evaluate(t, "-m", base, "--lora", filepath.Join(dir, "b"), "-d", numbers)
	require.Equal(t, "pearson", e.Metric)
}

func TestTagger(t *testing.T) {
	base, dir := bertFolder(t, "Model", 0), t.TempDir()
	path := write(t, filepath.Join(dir, "d.jsonl"), strings.Repeat(`{"tokens":["the","films","was","good"],"ner_tags":["O","B","O","A"]}`+"\n"+`{"tokens":["bad","night"],"ner_tags":["A","B"]}`+"\n", 16))
	ok(t, "train", "-m", base, "-d", path, "-o", filepath.Join(dir, "a"), "--lr", "0.01", "--epochs", "10")
	e := evaluate(t, "-m", base, "--lora", filepath.Join(dir, "a"), "-d", path)
	require.Equal(t, model.TokenClassification, e.Task)
	require.Equal(t, "f1", e.Metric)
	require.Greater(t, *e.Score, 0.9)
	var c classified
	jsonOf(t, &c, "classify", "-m", base, "--lora", filepath.Join(dir, "a"), "the films")
	require.Len(t, c.Words, 2)
	require.Equal(t, "films", c.Words[1].Word)
	require.Equal(t, "B", c.Words[1].Tag)
	require.Contains(t, ok(t, "classify", "-m", base, "--lora", filepath.Join(dir, "a"), "the films"), "films")
}

func TestEncoderDecoder(t *testing.T) {
	base, dir := bartFolder(t), t.TempDir()
	var b strings.Builder
	for i := range 26 {
		fmt.Fprintf(&b, "%c%c,%c\n", 'a'+i, 'a'+i, 'a'+(i+1)%26)
	}
	path := write(t, filepath.Join(dir, "d.csv"), b.String())
	args := []string{"-m", base, "-d", path, "--columns", "mr,ref", "--map", "source=mr", "--map", "target=ref"}
	text := ok(t, append([]string{"train", "-o", filepath.Join(dir, "a"), "--lr", "0.01", "--epochs", "60", "--batch-size", "13", "--grad-accum", "1"}, args...)...)
	require.Contains(t, text, "text to text")
	require.Contains(t, text, "source/target")
	e := evaluate(t, append(args, "--lora", filepath.Join(dir, "a"), "--exact-match")...)
	require.Equal(t, model.Seq2SeqLM, e.Task)
	require.Equal(t, "exact_match", e.Metric)
	require.Greater(t, *e.ExactMatch, 0.7)
	require.Equal(t, *e.ExactMatch, *e.Score)
	var g generated
	jsonOf(t, &g, "generate", "-m", base, "--lora", filepath.Join(dir, "a"), "-p", "cc", "-n", "4")
	require.NotEmpty(t, g.Text)
	var one, two struct{ Logits [][]float64 }
	jsonOf(t, &one, "logits", "-m", base, "--source", "cc", "--target", "d")
	jsonOf(t, &two, "logits", "-m", base, "--source-ids", "5,5,1", "--decoder-ids", "2,6")
	require.Len(t, one.Logits, 2)
	require.Equal(t, one, two)
	o := cli(t, "logits", "-m", base, "--tokens", "5,6", "--json")
	require.Contains(t, o.errors, "reads a source")
}

func TestLogitsOfPrompts(t *testing.T) {
	base := bertFolder(t, "ForSequenceClassification", 2)
	path := write(t, filepath.Join(t.TempDir(), "p.jsonl"), "[2,5,3]\n{\"text\":\"a film\"}\n{\"tokens\":[2,5,3,6,3],\"types\":[0,0,0,1,1]}\n")
	text := ok(t, "logits", "-m", base, "--prompts", path, "--json")
	require.Equal(t, 3, strings.Count(text, "\n"))
}

// MiniLM's tokenizer and the real file of SST-2, if they are there.
func TestRealClassification(t *testing.T) {
	base := os.Getenv("PEFTKIT_MINILM")
	if base == "" {
		t.Skip("PEFTKIT_MINILM does not name a MiniLM folder")
	}
	dir := t.TempDir()
	sst2 := testdata.Dir(t, "text", "sst2")
	out := filepath.Join(dir, "a")
	ok(t, "train", "-m", base, "-d", filepath.Join(sst2, "train.tsv"), "--columns", "text,label", "-o", out, "--lr", "1e-3", "--max-steps", "60")
	e := evaluate(t, "-m", base, "--lora", out, "-d", filepath.Join(sst2, "dev.tsv"), "--columns", "text,label", "--limit", "200")
	require.Greater(t, *e.Score, 0.65)
}
