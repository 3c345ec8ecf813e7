package data

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// peerFile reads a file that testdata/files.py wrote.
func peerFile(t *testing.T, name string) *reading {
	t.Helper()
	in, err := (&Options{}).read([]string{filepath.Join("testdata", "files", name)})
	require.NoError(t, err)
	require.Zero(t, in.bad.Total, in.bad.Error())
	return in
}

// plain turns lists and dictionaries into JSON.
func plain(v any) any {
	switch x := v.(type) {
	case *jinja.List:
		out := []any{}
		for _, it := range x.Items {
			out = append(out, plain(it))
		}
		return out
	case *jinja.Dict:
		out := map[string]any{}
		for _, k := range x.Keys() {
			e, _ := x.Get(k)
			out[k.(string)] = plain(e)
		}
		return out
	}
	return v
}

func TestTablesOfWriters(t *testing.T) {
	hard := [][2]string{{`say "hi"`, "a\tb"}, {"two\nlines", "c;d,e"}, {"", `"`}}
	for _, name := range []string{"pandas.tsv", "pandas.csv", "semicolon.csv", "index.tsv", "excel.tsv", "all.tsv", "r.tsv"} {
		t.Run(name, func(t *testing.T) {
			in := peerFile(t, name)
			require.Len(t, in.rows, len(hard))
			for i, w := range hard {
				require.Equal(t, w[0], in.rows[i].fields["prompt"])
				require.Equal(t, w[1], in.rows[i].fields["completion"])
			}
			if name == "semicolon.csv" {
				require.Len(t, in.notes, 1)
				require.Contains(t, in.notes[0], "semicolons")
			}
		})
	}
}

func TestTables(t *testing.T) {
	for _, c := range []struct {
		name, file, content string
		names               []string
		want                [][]string // the header first
		note, bad           string
	}{
		{name: "quotes of a text", file: "a.tsv", content: "text\tlabel\n\"Go!\" he said\t1\n\"Stop\" \"it\"\t0\n", want: [][]string{{"text", "label"}, {`"Go!" he said`, "1"}, {`"Stop" "it"`, "0"}}},
		{name: "a text in quotes among others", file: "a.tsv", content: "text\tlabel\n\"Go!\"\t1\nStop\t0\n", want: [][]string{{"text", "label"}, {`"Go!"`, "1"}, {"Stop", "0"}}},
		{name: "quotes that would join lines", file: "a.tsv", content: "text\tlabel\n\"Go\t1\nStop\"\t0\n", want: [][]string{{"text", "label"}, {`"Go`, "1"}, {`Stop"`, "0"}}},
		{name: "all columns in quotes", file: "a.tsv", content: "\"text\"\t\"label\"\n\"Go\"\t\"1\"\nNA\t\"0\"\n", want: [][]string{{"text", "label"}, {"Go", "1"}, {"NA", "0"}}},
		{name: "semicolons", file: "a.csv", content: "text;label\na, b;1\nc;0\n", want: [][]string{{"text", "label"}, {"a, b", "1"}, {"c", "0"}}, note: "separated by semicolons"},
		{name: "semicolons, no commas", file: "a.csv", content: "text;label\nb;1\n", want: [][]string{{"text", "label"}, {"b", "1"}}, note: "separated by semicolons"},
		{name: "semicolons without a header", file: "a.csv", content: "b;1\nc;2\n", names: []string{"text", "label"}, want: [][]string{{"text", "label"}, {"b", "1"}, {"c", "2"}}, note: "separated by semicolons"},
		{name: "tabs in .csv", file: "a.csv", content: "text\tlabel\nb, c\t1\n", want: [][]string{{"text", "label"}, {"b, c", "1"}}, note: "separated by tabs"},
		{name: "Excel's sep", file: "a.csv", content: "sep=;\r\ntext;label\r\nb;1\r\n", want: [][]string{{"text", "label"}, {"b", "1"}}, note: "separated by semicolons"},
		{name: "one column with semicolons", file: "a.csv", content: "text\na; b\nc; d; e\n", want: [][]string{{"text"}, {"a; b"}, {"c; d; e"}}},
		{name: "old Mac", file: "a.csv", content: "text,label\ra,1\r", want: [][]string{{"text", "label"}, {"a", "1"}}},
		{name: "a semicolon too many", file: "a.csv", content: "text;label\na;b;1\n", bad: "a.csv:2: cannot be read: 3 columns; expected 2: text, label", note: "separated by semicolons"},
		{name: "a column twice", file: "a.csv", content: "text,text\na,b\n", bad: `a.csv:1: cannot be read: the column "text" twice`},
		{name: "text behind a quote", file: "a.csv", content: "text\n\"a\"b\n", bad: "text behind a closing quote"},
		{name: "UTF-8", file: "a.csv", content: "text\n\xff\n", bad: "not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := (&Options{Names: c.names}).reading()
			require.NoError(t, in.parse(c.file, []byte(c.content)))
			require.Contains(t, strings.Join(in.notes, "\n"), c.note)
			require.Equal(t, c.note != "", len(in.notes) > 0)
			if c.bad != "" {
				require.ErrorContains(t, in.bad.orNil(), c.bad)
				return
			}
			require.NoError(t, in.bad.orNil())
			require.Len(t, in.rows, len(c.want)-1)
			for i, r := range in.rows {
				for k, n := range c.want[0] {
					require.Equal(t, c.want[i+1][k], r.fields[n])
				}
			}
		})
	}
}

func TestHeaderlessTableIsNamed(t *testing.T) {
	content := []byte("What is up?,The sky\nWhat is down?,The earth\n")
	_, _, err := Parse("a.csv", content, nil, nil)
	require.ErrorIs(t, err, ErrFields)
	require.ErrorContains(t, err, "a.csv:1: wrong fields: the first line is no header")
	flag := regexp.MustCompile(`--columns (\S+)`).FindStringSubmatch(err.Error())
	require.NotNil(t, flag, err)
	records, _, err := Parse("a.csv", content, nil, strings.Split(flag[1], ","))
	require.NoError(t, err, "the flag that the error names works")
	require.Len(t, records, 2)
}

// The columns that an error proposes can be given as they stand.
func TestProposedMapWorks(t *testing.T) {
	for _, c := range []struct {
		task          model.Task
		file, content string
		want          []string
	}{
		{model.CausalLM, "a.jsonl", `{"id":"7","ask":"a b","say":"c d"}`, []string{"prompt=ask", "completion=say"}},
		{model.CausalLM, "a.jsonl", `{"my question":"a","der_answer":"b"}`, []string{"prompt=my question", "completion=der_answer"}},
		{model.CausalLM, "a.jsonl", `{"body":"a"}`, []string{"text=body"}},
		{model.CausalLM, "a.csv", "en,de\na,b\n", []string{"prompt=en", "completion=de"}},
		{model.SequenceClassification, "a.csv", "stars,review\n5,very good\n", []string{"text=review", "label=stars"}},
		{model.Seq2SeqLM, "a.csv", "en,de\na,b\n", []string{"source=en", "target=de"}},
	} {
		_, _, err := parseRecords(c.file, []byte(c.content), c.task, nil, nil, false)
		require.ErrorIs(t, err, ErrFields)
		columns := Columns{}
		var got []string
		for _, m := range regexp.MustCompile(`--map (?:'([^']*)'|(\S+))`).FindAllStringSubmatch(err.Error(), -1) {
			field, column, _ := strings.Cut(m[1]+m[2], "=")
			columns[field] = column
			got = append(got, field+"="+column)
		}
		require.Equal(t, c.want, got, err)
		_, _, err = parseRecords(c.file, []byte(c.content), c.task, columns, nil, false)
		require.NoError(t, err)
	}
}

func TestNamesOfDataSets(t *testing.T) {
	for _, c := range []struct {
		content            string
		kind               Kind
		prompt, completion string
	}{
		{`{"question":"a","answer":"b"}`, Completion, "a", "b"},
		{`{"Question":"a","Answer":"b"}`, Completion, "a", "b"},
		{`{"type":"t","query":"a","response":"b"}`, Completion, "a", "b"},
		{`{"input":"a","output":"b"}`, Completion, "a", "b"},
		{`{"inputs":"a","targets":"b"}`, Completion, "a", "b"},
		{`{"problem":"a","solution":"b","source":"s"}`, Completion, "a", "b"},
		{`{"prompt":"a","response":"b"}`, Completion, "a", "b"},
		{`{"human":"a","assistant":"b"}`, Completion, "a", "b"},
		{`{"Context":"a","Response":"b"}`, Completion, "a", "b"},
		{`{"dialogue":"a","summary":"b"}`, Completion, "a", "b"},
		{`{"prompt":"a","completion":"b","question":"x","answer":"y"}`, Completion, "a", "b"},
		{`{"instruction":"a","input":"","output":"b"}`, Instruction, "a", "b"},
		{`{"instruction":"a","context":"","response":"b","category":"c"}`, Instruction, "a", "b"},
		{`{"text":"a","summary":"b"}`, Text, "", ""},
	} {
		records, _, err := Parse("a.jsonl", []byte(c.content), nil, nil)
		require.NoError(t, err, c.content)
		r := records[0]
		require.Equal(t, c.kind, r.Kind, c.content)
		require.Equal(t, c.prompt, r.Prompt+r.Instruction, c.content)
		require.Equal(t, c.completion, r.Completion+r.Output, c.content)
	}
	_, _, err := Parse("a.jsonl", []byte(`{"prompt":"a","completion":"b"}`+"\n"+`{"prompt":"a","answer":"b"}`), nil, nil)
	require.ErrorContains(t, err, `a.jsonl:2: wrong fields: fields answer, prompt, no "completion"`)
}

func TestParquet(t *testing.T) {
	for _, codec := range []string{"none", "snappy", "gzip", "zstd", "brotli", "lz4"} {
		in := peerFile(t, "chat."+codec+".parquet")
		require.Len(t, in.rows, 2)
		require.Equal(t, int64(1), in.rows[0].fields["id"])
		b, err := json.Marshal(plain(in.rows[0].fields["messages"]))
		require.NoError(t, err)
		require.JSONEq(t, `[{"role":"user","content":"U","n":[1,2]},{"role":"assistant","content":"A"}]`, string(b))
		b, err = json.Marshal(plain(in.rows[1].fields["messages"]))
		require.NoError(t, err)
		require.JSONEq(t, `[{"role":"system","content":"S"},{"role":"user","content":"V\n\"q\""},{"role":"assistant","content":"B é"}]`, string(b))
	}
	for _, name := range []string{"datasets.parquet", "pandas.parquet", "rows.jsonl.gz", "rows.jsonl.zst"} {
		in := peerFile(t, name)
		require.Len(t, in.rows, 5)
		require.Equal(t, "a4", in.rows[4].fields["completion"])
	}
}

func TestParquetTypes(t *testing.T) {
	in := peerFile(t, "types.parquet")
	require.Len(t, in.rows, 2)
	one, two := in.rows[0].fields, in.rows[1].fields
	for name, want := range map[string][2]any{
		"text": {"a", nil}, "flag": {true, false}, "i8": {int64(-1), nil}, "u32": {int64(1<<32 - 1), int64(0)}, "f32": {0.5, nil}, "f16": {1.5, 2.0},
		"day": {"1970-01-01", "2022-01-08"}, "time": {"1970-01-01T00:00:00Z", "2023-11-14T22:13:20.123Z"}, "nano": {"1970-01-01T00:00:00.000000001", "1969-12-31T23:59:59.999999999"},
		"money": {"1.50", "-0.05"}, "nothing": {nil, nil}, "lists": {[]any{[]any{int64(1)}, []any{}, nil}, nil}, "map": {map[string]any{"k": int64(1)}, map[string]any{}},
		"big": {"x", "y"}, "dict": {"p", "p"}, "raw": {[]byte{0xff}, "ok"}, "struct": {map[string]any{"b": map[string]any{"c": "d"}}, nil},
	} {
		require.Equal(t, want[0], plain(one[name]), name)
		require.Equal(t, want[1], plain(two[name]), name)
	}
	require.Len(t, one, 17)
}

func TestDamagedFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/files/chat.zstd.parquet")
	require.NoError(t, err)
	zipped, err := os.ReadFile("testdata/files/rows.jsonl.gz")
	require.NoError(t, err)
	zst, err := os.ReadFile("testdata/files/rows.jsonl.zst")
	require.NoError(t, err)
	for _, c := range []struct {
		file    string
		content []byte
		want    string
	}{
		{"a.parquet", whole[:len(whole)/2], "the file is incomplete"},
		{"a.parquet", []byte("x"), "the file is incomplete"},
		{"a.parquet", []byte("version https://git-lfs.github.com/spec/v1\n"), "no Parquet file"},
		{"a.jsonl.gz", zipped[:len(zipped)-9], "the file is incomplete"},
		{"a.jsonl.gz", []byte("{}"), "cannot be read"},
		{"a.jsonl.zst", zst[:len(zst)-3], "the file is incomplete"},
		{"a.jsonl", zipped, "compressed by gzip"},
		{"a.jsonl", whole, "name it with the ending .parquet"},
		{"a.csv", []byte("\xff\xfea\x00"), "UTF-16"},
		{"a.jsonl", []byte("<!DOCTYPE html><html>"), "a web page"},
		{"a.arrow", []byte("ARROW1"), "to_parquet"},
		{"a.xlsx", []byte("PK\x03\x04"), "save the sheet as CSV"},
	} {
		path := filepath.Join(t.TempDir(), c.file)
		require.NoError(t, os.WriteFile(path, c.content, 0o666))
		_, err := Load(path, Options{Tokenizer: toy{}})
		require.ErrorContains(t, err, c.want, c.file)
		require.ErrorContains(t, err, c.file)
	}
}

func TestCompressedBombIsRefused(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range unpackFloor>>20 + 1 {
		_, err := w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	path := filepath.Join(t.TempDir(), "a.jsonl.gz")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o666))
	_, err := Load(path, Options{Tokenizer: toy{}})
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, "unpack to more than")
}

func TestObjectsOfRecords(t *testing.T) {
	const list = `[{"text":"a"},{"text":"b"}]`
	for _, c := range []struct {
		content string
		records int
		note    string
	}{
		{`{"data":` + list + `}`, 2, ""},
		{`{"train":` + list + `}`, 2, ""},
		{`{"examples":` + list + `,"version":1}`, 2, "not read: version"},
		{`{"beliebig":` + list + `}`, 2, ""},
		{`{"train":` + list + `,"test":[{"text":"c"}]}`, 2, "not read: test"},
		{`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function"}]}`, 1, ""},
		{`{"text":"a","more":[{"x":1}]}`, 1, ""},
	} {
		in := (&Options{Task: model.CausalLM}).reading()
		require.NoError(t, in.parse("a.json", []byte(c.content)))
		require.NoError(t, in.bad.orNil())
		require.Len(t, in.rows, c.records, c.content)
		require.Contains(t, strings.Join(in.notes, "\n"), c.note)
	}
	for content, want := range map[string]string{
		`{"data":[{"title":"t","paragraphs":[]}]}`:  "SQuAD",
		`{"text":{"0":"a","1":"b"}}`:                "orient=\"records\"",
		`{"this":` + list + `,"that":` + list + `}`: "lists of objects: this, that",
	} {
		_, _, err := Parse("a.json", []byte(content), nil, nil)
		require.ErrorContains(t, err, want)
	}
}

func TestTextFiles(t *testing.T) {
	const text = "ab\n\ncd\nef\n"
	for _, c := range []struct {
		split SplitText
		max   int
		want  []string
	}{
		{"", 0, []string{"<s>[ab\n\ncd\nef\n</s>]"}},
		{ByFile, 5, []string{"<s>[ab\n\n]", "<s>[cd\ne]", "<s>[f\n</s>]"}},
		{ByParagraph, 0, []string{"<s>[ab</s>]", "<s>[cd\nef</s>]"}},
		{ByLine, 0, []string{"<s>[ab</s>]", "<s>[cd</s>]", "<s>[ef</s>]"}},
	} {
		path := filepath.Join(t.TempDir(), "a.txt")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
		d, err := Load(path, Options{Tokenizer: toy{}, MaxSeqLen: c.max, SplitText: c.split})
		require.NoError(t, err)
		var got []string
		for i := range d.Examples {
			got = append(got, toy{}.show(&d.Examples[i]))
		}
		require.Equal(t, c.want, got)
		require.Zero(t, d.Stats.Truncated)
		require.Zero(t, d.Stats.NoEnd)
	}
	d := windows(Example{Tokens: []int32{1, 2, 3, 4, 5}, Labels: []int32{Ignore, 2, 3, 4, 5}, TrainFirst: true}, nil, 3)
	require.Equal(t, []int32{3, 4, 5}, d[1].Tokens, "without a token in front the last one is repeated")
	require.Equal(t, []int32{Ignore, 4, 5}, d[1].Labels)
}

func TestEmptyAnswersAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.csv")
	require.NoError(t, os.WriteFile(path, []byte("prompt,completion\na,b\nc,\nd,\" \"\n"), 0o666))
	d, err := Load(path, Options{Tokenizer: toy{}})
	require.NoError(t, err)
	require.Equal(t, 2, d.Stats.Empty)
	require.Contains(t, strings.Join(d.Stats.Notes(), "\n"), "2 of 3 examples have an empty answer")
}

func TestLimitCountsWhatItKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"text":"ab"}`+"\n"+`{"text":"cdefghij"}`+"\n"+`{"text":"cdefghij"}`+"\n"), 0o666))
	d, err := Load(path, Options{Tokenizer: toy{}, MaxSeqLen: 5, Limit: 1})
	require.NoError(t, err)
	require.Len(t, d.Examples, 1)
	require.Equal(t, 3, d.Stats.Of)
	require.Equal(t, 1, d.Stats.Records)
	require.Equal(t, int64(4), d.Stats.Tokens)
	require.Zero(t, d.Stats.Truncated)
	require.Zero(t, d.Stats.Duplicates)
	require.Equal(t, 4, d.Stats.Longest)
}

func TestLayouts(t *testing.T) {
	const one = `{"text":"a"}` + "\n"
	for _, c := range []struct {
		name  string
		files []string
		part  string
		want  []string // or an error
		err   error
	}{
		{"mlx-lm", []string{"train.jsonl", "valid.jsonl", "test.jsonl"}, "valid", []string{"valid.jsonl"}, nil},
		{"hub", []string{"README.md", "data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl"}, "train",
			[]string{"data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"}, nil},
		{"hub's hashes", []string{"data/train-00000-of-00001-a3ecf92756993583.jsonl"}, "", []string{"data/train-00000-of-00001-a3ecf92756993583.jsonl"}, nil},
		{"a shard is missing", []string{"data/train-00000-of-00002.jsonl"}, "", nil, ErrFormat},
		{"folders of parts", []string{"default/train/0000.jsonl", "default/train/0001.jsonl", "default/test/0000.jsonl"}, "train", []string{"default/train/0000.jsonl", "default/train/0001.jsonl"}, nil},
		{"no parts", []string{"a.jsonl", "b.jsonl", ".hidden.jsonl", "dataset_info.json"}, "", []string{"a.jsonl", "b.jsonl"}, nil},
		{"two kinds", []string{"train.jsonl", "train.csv"}, "", nil, ErrFormat},
		{"two parts by word", []string{"train_sft.jsonl", "train_gen.jsonl"}, "", nil, ErrFormat},
		{"the exact name first", []string{"train.jsonl", "train_gen.jsonl"}, "", []string{"train.jsonl"}, nil},
		{"a part by word", []string{"my-train-v2.jsonl", "my-dev-v2.jsonl"}, "valid", []string{"my-dev-v2.jsonl"}, nil},
		{"two configurations", []string{"en/train-00000-of-00001.jsonl", "de/train-00000-of-00001.jsonl"}, "", nil, ErrFormat},
		{"no such part", []string{"train.jsonl"}, "test", nil, fs.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.files {
				path := filepath.Join(dir, filepath.FromSlash(f))
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
				require.NoError(t, os.WriteFile(path, []byte(one), 0o666))
			}
			files, _, err := partFiles(dir, c.part)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			for i := range files {
				files[i], err = filepath.Rel(dir, files[i])
				require.NoError(t, err)
				files[i] = filepath.ToSlash(files[i])
			}
			slices.Sort(files)
			require.Equal(t, c.want, files)
			d, err := Load(dir, Options{Tokenizer: toy{}, Part: c.part})
			require.NoError(t, err)
			require.Len(t, d.Examples, len(c.want))
		})
	}
}

func FuzzFiles(f *testing.F) {
	for _, n := range []string{"chat.none.parquet", "types.parquet", "rows.jsonl.gz", "rows.jsonl.zst", "excel.tsv", "r.tsv", "semicolon.csv"} {
		b, err := os.ReadFile(filepath.Join("testdata", "files", n))
		require.NoError(f, err)
		f.Add(uint8(strings.Count(n, "p")), b)
	}
	names := []string{"a.parquet", "a.jsonl", "a.csv", "a.tsv", "a.txt", "a.json"}
	f.Fuzz(func(t *testing.T, kind uint8, content []byte) {
		for _, name := range []string{names[int(kind)%len(names)], "a.parquet"} {
			in := (&Options{}).reading()
			if err := in.parse(name, content); err != nil {
				require.ErrorContains(t, err, name)
			}
		}
		for ending := range unpackers {
			if b, err := unpack("a.jsonl"+ending, ending, bytes.NewReader(content), int64(len(content))); err == nil {
				require.LessOrEqual(t, int64(len(b)), unpackLimit(int64(len(content))))
			}
		}
	})
}
