package data

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEncode(t *testing.T) {
	chatty, plain := toy{template: chatML}, toy{}
	for _, c := range []struct {
		name, file, content string
		tok                 toy
		o                   Options
		want                string
	}{
		{"text", "a.jsonl", `{"text":"ab"}`, plain, Options{}, "<s>[ab</s>]"},
		{"text without special tokens", "a.jsonl", `{"text":"ab"}`, toy{noSpecial: true}, Options{}, "a[b]"},
		{"tokenizer that ends texts itself", "a.jsonl", `{"prompt":"a","completion":"b"}`, toy{addEOS: true}, Options{}, "<s>a[b</s>]"},
		{"completion", "a.jsonl", `{"prompt":"ab","completion":" cd"}`, chatty, Options{}, "<s>ab[ cd</s>]"},
		{"completion that has its end", "a.jsonl", `{"prompt":"ab","completion":" cd</s>"}`, plain, Options{}, "<s>ab[ cd</s>]"},
		{"completion, all", "a.jsonl", `{"prompt":"ab","completion":" cd"}`, plain, Options{TrainOn: Everything}, "<s>[ab cd</s>]"},
		{"empty prompt", "a.jsonl", `{"prompt":"","completion":"cd"}`, plain, Options{}, "<s>[cd</s>]"},
		{"completion as chat", "a.jsonl", `{"prompt":"ab","completion":"cd"}`, chatty, Options{Chat: true},
			"<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n[cd<|im_end|>]\n"},
		{"token over the border", "a.jsonl", `{"prompt":"is ","completion":"good"}`, plain, Options{}, "<s>is[ good</s>]"},
		{"chat", "a.jsonl", `{"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}`, chatty, Options{},
			"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>]\n"},
		{"chat, last", "a.jsonl", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}`, chatty, Options{TrainOn: LastAnswer},
			"<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>]\n"},
		{"chat, all", "a.jsonl", `{"messages":[{"role":"user","content":"U"}]}`, chatty, Options{TrainOn: Everything}, "<|im_start|>[user\nU<|im_end|>\n]"},
		{"chat by another template", "a.jsonl", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`, plain,
			Options{ChatTemplate: "{{bos_token}}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{m.content}}{{eos_token}}{% endgeneration %}{% else %}Q: {{m.content}} A: {% endif %}{% endfor %}"}, "<s>Q: U A: [A</s>]"},
		{"parts of content", "a.jsonl", `{"messages":[{"role":"user","content":[{"type":"text","text":"U"},{"type":"text","text":"V"}]},{"role":"assistant","content":"A"}]}`, chatty, Options{},
			"<|im_start|>user\nUV<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]\n"},
		{"ShareGPT", "a.jsonl", `{"conversations":[{"from":"human","value":"U"},{"from":"gpt","value":"A"}],"system":"S"}`, chatty, Options{},
			"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]\n"},
		{"completion in messages", "a.jsonl", `{"prompt":[{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"}],"completion":[{"role":"assistant","content":"B"}]}`, chatty, Options{},
			"<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>]\n"},
		{"instruction with template", "a.jsonl", `{"instruction":"I","input":"X","output":"O"}`, chatty, Options{}, "<|im_start|>user\nI\nX<|im_end|>\n<|im_start|>assistant\n[O<|im_end|>]\n"},
		{"instruction without template", "a.jsonl", `{"instruction":"I","input":"","output":"O"}`, plain, Options{}, "<s>### Instruction:\nI\n\n### Response:\n[O</s>]"},
		{"array", "a.json", "\ufeff[\n{\"text\":\"ab\"}\n]\n", plain, Options{}, "<s>[ab</s>]"},
		{"lines in .json", "a.json", "{\"text\":\"ab\"}\r\n\r\n", plain, Options{}, "<s>[ab</s>]"},
		{"csv", "a.csv", "prompt,completion\n\"a\nb\",\"c\"\"d\"\n", plain, Options{}, "<s>a\nb[c\"d</s>]"},
		{"csv by map", "a.csv", "text,category\nab,cd\n", plain, Options{Columns: Columns{"prompt": "text", "completion": "category"}}, "<s>ab[cd</s>]"},
		{"csv by pattern", "a.csv", "text,category\nab,cd\n", plain, Options{Columns: Columns{"prompt": "Q {{x}}: {text}\n", "completion": " {category}"}}, "<s>Q {x}: ab\n[ cd</s>]"},
		{"tsv without header", "a.tsv", "cd\ta \"b\n", plain, Options{Names: []string{"label", "text"}, Columns: Columns{"prompt": "text", "completion": "label"}}, "<s>a \"b[cd</s>]"},
		{"surrogate pair", "a.jsonl", `{"text":"\ud83d\ude00"}`, plain, Options{}, "<s>[\u00f0\u009f\u0098\u0080</s>]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.file)
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o666))
			c.o.Tokenizer = c.tok
			d, err := Load(path, c.o)
			require.NoError(t, err)
			require.Len(t, d.Examples, 1)
			require.Equal(t, c.want, c.tok.show(&d.Examples[0]))
			require.Equal(t, path, d.Examples[0].File)
		})
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	const good = `{"prompt":"a","completion":"b"}` + "\n"
	for _, c := range []struct {
		name, file, content string
		columns             Columns
		kind                error
		want                []string
	}{
		{"cut short", "a.jsonl", good + `{"prompt":"a","comp`, nil, ErrSyntax, []string{"a.jsonl:2: cannot be read: unexpected end of JSON input", "expected one JSON object per line"}},
		{"two objects", "a.jsonl", `{"text":"a"} {"text":"b"}`, nil, ErrSyntax, []string{"a.jsonl:1", "more after the object"}},
		{"not an object", "a.jsonl", good + "42\n", nil, ErrSyntax, []string{"a.jsonl:2", "a JSON number"}},
		{"null", "a.jsonl", "null\n", nil, ErrSyntax, []string{"a.jsonl:1", "null"}},
		{"not UTF-8", "a.jsonl", good + "{\"prompt\":\"\xff\",\"completion\":\"b\"}", nil, ErrSyntax, []string{"a.jsonl:2", "not UTF-8"}},
		{"half a surrogate pair", "a.jsonl", `{"text":"\\ \ud83d."}`, nil, ErrSyntax, []string{"a.jsonl:1", "surrogate"}},
		{"missing field", "a.jsonl", good + `{"prompt":"a","answer":"b"}`, nil, ErrFields, []string{"a.jsonl:2", `fields answer, prompt, no "completion"`, "expected prompt and completion as in line 1"}},
		{"wrong type", "a.jsonl", good + `{"prompt":"a","completion":1}`, nil, ErrFields, []string{"a.jsonl:2", `"completion" is a number`, "expected a string"}},
		{"unknown fields", "a.jsonl", `{"ask":"a","say":"b"}`, nil, ErrFields, []string{"a.jsonl:1", "fields ask, say", "--map prompt=ask --map completion=say"}},
		{"messages is no list", "a.jsonl", `{"messages":"hi"}`, nil, ErrFields, []string{`"messages" is a string`}},
		{"no messages", "a.jsonl", `{"messages":[]}`, nil, ErrFields, []string{"empty list"}},
		{"message without role", "a.jsonl", `{"messages":[{"content":"hi"}]}`, nil, ErrFields, []string{"messages[0] has fields content", "role and content"}},
		{"message without text", "a.jsonl", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null}]}`, nil, ErrFields, []string{"messages[1]: the content is null"}},
		{"picture", "a.jsonl", `{"messages":[{"role":"user","content":[{"type":"image","url":"x"}]}]}`, nil, ErrFields, []string{"messages[0]: the content is a list in which [0] is of type \"image\"", "pictures and sounds are not read"}},
		{"no chat template", "a.jsonl", strings.Repeat(`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}`+"\n", 3), nil, ErrTemplate, []string{"a.jsonl:1: chat template: the model has none"}},
		{"array cut short", "a.json", "[\n{\"text\":\"a\"},\n{\"te", nil, ErrSyntax, []string{"a.json:3", "unexpected EOF"}},
		{"array with more behind", "a.json", "[{\"text\":\"a\"}]\nx", nil, ErrSyntax, []string{"a.json:", "after the end of the array"}},
		{"array of strings", "a.json", "[\n\"a\"]", nil, ErrSyntax, []string{"a.json:2", "a JSON string"}},
		{"csv column too many", "a.csv", "text\na\nb,c\n", nil, ErrSyntax, []string{"a.csv:3", "2 columns", "expected 1: text"}},
		{"csv quote", "a.csv", "text\na\n\"b\n", nil, ErrSyntax, []string{"a.csv:3", `extraneous or missing " in quoted-field`}},
		{"tsv column too few", "a.tsv", "prompt\tcompletion\na\n", nil, ErrSyntax, []string{"a.tsv:2", "1 column;"}},
		{"map to a missing column", "a.csv", "text,label\na,b\n", Columns{"prompt": "text", "completion": "category"}, ErrFields, []string{"a.csv:2", `fields label, text, no "category"`}},
		{"pattern with a missing column", "a.csv", "text,label\na,b\n", Columns{"text": "{text} {lable}"}, ErrFields, []string{`no "lable"`}},
		{"map of an unknown field", "a.csv", "text\na\n", Columns{"frage": "text"}, ErrFields, []string{`field "frage"`}},
		{"empty file", "a.jsonl", "\n\n", nil, ErrEmpty, []string{"no records"}},
		{"header alone", "a.csv", "text\n", nil, ErrEmpty, []string{"no records"}},
		{"unknown type", "a.doc", "x", nil, ErrFormat, []string{"expected .jsonl, .json, .csv, .tsv, .parquet or .txt"}},
		{"nothing to train", "a.jsonl", `{"text":""}` + "\n", nil, ErrEmpty, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.file)
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o666))
			tok := toy{noSpecial: c.name == "nothing to train"}
			_, err := Load(path, Options{Tokenizer: tok, Columns: c.columns})
			require.ErrorIs(t, err, c.kind)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func TestAllBadLinesAreCounted(t *testing.T) {
	_, _, err := Parse("a.jsonl", []byte(strings.Repeat("{\n", 25)), nil, nil)
	var all *LineErrors
	require.ErrorAs(t, err, &all)
	require.Equal(t, 25, all.Total)
	require.Len(t, all.First, 1, "one error for each kind")
	require.ErrorContains(t, err, "a.jsonl:1: cannot be read: unexpected end of JSON input")
	require.ErrorContains(t, err, "(25 lines: 1, 2, 3, 4, 5, ...)")

	_, _, err = Parse("a.jsonl", []byte(strings.Repeat("{\n", 3)+"7\n"+`{"prompt":"a","completion":"b"}`+"\n"+strings.Repeat(`{"prompt":"a","n":1}`+"\n"+`{"prompt":"a"}`+"\n", 3)), nil, nil)
	require.ErrorAs(t, err, &all)
	require.Equal(t, 10, all.Total)
	require.Len(t, all.First, 3)
	require.ErrorContains(t, err, "a.jsonl:4: cannot be read: a JSON number in")
	require.ErrorContains(t, err, `a.jsonl:6: wrong fields: fields n, prompt, no "completion"; expected prompt and completion as in line 5 (6 lines: 6, 7, 8, 9, 10, ...)`)
}

func TestStats(t *testing.T) {
	tok := toy{template: chatML}
	chat := func(user, answer string) string {
		s := `{"id":"7","messages":[{"role":"user","content":"` + user + `"}`
		if answer != "" {
			s += `,{"role":"assistant","content":"` + answer + `"}`
		}
		return s + "]}\n"
	}
	content := chat("a", "b") + chat("a", "b") + chat("only a question", "") + chat("a", strings.Repeat("b", 100)) + chat(strings.Repeat("a", 100), "b")
	path := filepath.Join(t.TempDir(), "a.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
	d, err := Load(path, Options{Tokenizer: tok, MaxSeqLen: 50})
	require.NoError(t, err)
	s := d.Stats
	require.Equal(t, Chat, s.Kind)
	require.Equal(t, 5, s.Records)
	require.Equal(t, 3, s.Examples)
	require.Equal(t, 2, s.Truncated)
	require.Equal(t, int64(s.Longest-50)*2, s.Cut)
	require.Equal(t, 2, s.Untrained)
	require.Equal(t, 1, s.UntrainedByCut)
	require.Equal(t, 1, s.Duplicates)
	require.Equal(t, 0, s.NoEnd)
	require.Equal(t, []string{"id"}, s.Unused)
	require.Equal(t, int64(len(d.Examples[0].Tokens)*2+50), s.Tokens)
	require.Len(t, s.Notes(), 4)
	require.Equal(t, 3, len(d.Examples))
	require.LessOrEqual(t, s.P95, 50)

	_, err = Load(path, Options{Tokenizer: tok, MaxSeqLen: 10})
	require.ErrorIs(t, err, ErrEmpty)
	require.ErrorContains(t, err, "lose their answer at the maximum sequence length")

	noEnd := toy{template: strings.ReplaceAll(chatML, "<|im_end|>", "|")}
	d, err = Load(path, Options{Tokenizer: noEnd})
	require.NoError(t, err)
	require.Equal(t, 4, d.Stats.NoEnd)
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666))
	}
	o := Options{Tokenizer: toy{}}
	_, err := Load(dir, o)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "no data files")
	write("train.jsonl", strings.Repeat(`{"text":"abc"}`+"\n", 10))
	train, valid, err := LoadSplits(dir, 0, 1, o)
	require.NoError(t, err)
	require.Nil(t, valid)
	require.Len(t, train.Examples, 10)
	train, valid, err = LoadSplits(dir, 0.2, 1, o)
	require.NoError(t, err)
	require.Len(t, train.Examples, 8)
	require.Len(t, valid.Examples, 2)
	write("val.csv", "text\nx\n")
	train, valid, err = LoadSplits(dir, 0.2, 1, o)
	require.NoError(t, err)
	require.Len(t, train.Examples, 10)
	require.Len(t, valid.Examples, 1)
	write("valid.jsonl", "{}")
	_, _, err = LoadSplits(dir, 0, 1, o)
	require.ErrorIs(t, err, ErrFormat)
	o.Part = "test"
	_, err = Load(dir, o)
	require.ErrorContains(t, err, "the folder holds train.jsonl, val.csv, valid.jsonl")
	o.Part = "other"
	_, err = Load(dir, o)
	require.ErrorContains(t, err, "expected train, valid or test")
}

func TestSplit(t *testing.T) {
	d := &Dataset{}
	for i := range 100 {
		d.Examples = append(d.Examples, Example{Tokens: []int32{1, int32(i)}, Labels: []int32{Ignore, int32(i)}, Line: i + 1})
	}
	lines := func(d *Dataset) (out []int) {
		for _, e := range d.Examples {
			out = append(out, e.Line)
		}
		return out
	}
	train, valid, err := d.Split(0.1, 42)
	require.NoError(t, err)
	require.Len(t, valid.Examples, 10)
	require.Len(t, train.Examples, 90)
	require.Equal(t, 90, train.Stats.Examples)
	require.IsIncreasing(t, lines(train))
	require.IsIncreasing(t, lines(valid))
	require.ElementsMatch(t, lines(d), append(lines(train), lines(valid)...))
	_, again, err := d.Split(0.1, 42)
	require.NoError(t, err)
	require.Equal(t, lines(valid), lines(again))
	_, other, err := d.Split(0.1, 43)
	require.NoError(t, err)
	require.NotEqual(t, lines(valid), lines(other))
	_, one, err := d.Split(0.001, 1)
	require.NoError(t, err)
	require.Len(t, one.Examples, 1)
	for _, f := range []float64{0, 1, -1} {
		_, _, err = d.Split(f, 1)
		require.Error(t, err)
	}
	require.NotEqual(t, train.Hash(), valid.Hash())
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"text":"a"}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}`, "[{\"text\":\"a\"},\n{\"text\":\"b\"}]",
		`{"conversations":[{"from":"human","value":"\ud83d\ude00"}]}`, "prompt\tcompletion\na\tb\n", "prompt,completion\n\"a\",b\n", "[", "{", "null", "\xef\xbb\xbf",
		`{"instruction":"a","output":"b","input":null}`, `{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]}`,
	} {
		for kind := range byte(4) {
			f.Add(kind, []byte(s))
		}
	}
	names := []string{"a.jsonl", "a.json", "a.csv", "a.tsv"}
	f.Fuzz(func(t *testing.T, kind byte, content []byte) {
		name := names[int(kind)%len(names)]
		records, _, err := Parse(name, content, nil, nil)
		if err != nil {
			return
		}
		require.NotEmpty(t, records)
		d, err := New(records, Options{Tokenizer: toy{template: chatML}, MaxSeqLen: 64})
		if err != nil {
			return
		}
		for _, ex := range d.Examples {
			require.Len(t, ex.Labels, len(ex.Tokens))
			require.LessOrEqual(t, len(ex.Tokens), 64)
			require.Positive(t, ex.Trained())
			require.Equal(t, Ignore, ex.Labels[0])
		}
	})
}
