package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

func loadText(t *testing.T, name, content string, o Options) (*Dataset, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
	if o.Tokenizer == nil {
		o.Tokenizer = toy{}
	}
	return Load(path, o)
}

func TestClassification(t *testing.T) {
	for _, c := range []struct {
		name, file, content string
		o                   Options
		tokens              string
		types               []int32
		class               int32
		labels              string
	}{
		{"names", "a.jsonl", `{"text":"hi","label":"pos"}` + "\n" + `{"text":"ho","label":"neg"}`, Options{}, "<s>hi</s>", nil, 1, "neg,pos"},
		{"numbers in order", "a.jsonl", `{"text":"hi","label":10}` + "\n" + `{"text":"ho","label":"9"}`, Options{}, "<s>hi</s>", nil, 1, "9,10"},
		{"truth", "a.jsonl", `{"text":"hi","label":true}` + "\n" + `{"text":"ho","label":false}`, Options{}, "<s>hi</s>", nil, 1, "false,true"},
		{"given names", "a.jsonl", `{"text":"hi","label":1}`, Options{Labels: []string{"no", "yes", "maybe"}}, "<s>hi</s>", nil, 1, "no,yes,maybe"},
		{"sentence", "a.jsonl", `{"sentence":"hi","label":"a"}` + "\n" + `{"sentence":"ho","label":"b"}`, Options{}, "<s>hi</s>", nil, 0, "a,b"},
		{"two texts", "a.jsonl", `{"text_a":"hi","text_b":"ho","label":0}`, Options{}, "<s>hi</s>ho</s>", []int32{0, 0, 0, 0, 1, 1, 1}, 0, "0"},
		{"text and pair", "a.jsonl", `{"text":"hi","text_pair":"ho","label":0}`, Options{}, "<s>hi</s>ho</s>", []int32{0, 0, 0, 0, 1, 1, 1}, 0, "0"},
		{"premise", "a.jsonl", `{"premise":"hi","hypothesis":"","label":"e"}`, Options{}, "<s>hi</s></s>", []int32{0, 0, 0, 0, 1}, 0, "e"},
		{"cut", "a.jsonl", `{"text":"abcdef","label":0}`, Options{MaxSeqLen: 5}, "<s>abc</s>", nil, 0, "0"},
		{"cut the longer", "a.jsonl", `{"premise":"abcdef","hypothesis":"gh","label":0}`, Options{MaxSeqLen: 8}, "<s>abc</s>gh</s>", []int32{0, 0, 0, 0, 0, 1, 1, 1}, 0, "0"},
		{"cut both", "a.jsonl", `{"premise":"abcdef","hypothesis":"ghijklm","label":0}`, Options{MaxSeqLen: 8}, "<s>ab</s>ghi</s>", []int32{0, 0, 0, 0, 1, 1, 1, 1}, 0, "0"},
		{"no header", "a.tsv", "x\t1\t*\thi\n", Options{Names: []string{"source", "label", "mark", "sentence"}}, "<s>hi</s>", nil, 0, "1"},
		{"columns", "a.csv", "utterance,intent\n\"h,i\",b\nho,a\n", Options{Columns: Columns{"text": "utterance", "label": "intent"}}, "<s>h,i</s>", nil, 1, "a,b"},
		{"pattern", "a.csv", "t,u,label\nhi,ho,b\n", Options{Columns: Columns{"text": "{t}+{u}"}}, "<s>hi+ho</s>", nil, 0, "b"},
		{"a list of one", "a.jsonl", `{"text":"hi","label":["b"]}` + "\n" + `{"text":"hi","label":["a"]}`, Options{Problem: model.SingleLabel}, "<s>hi</s>", nil, 1, "a,b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Task = model.SequenceClassification
			d, err := loadText(t, c.file, c.content, c.o)
			require.NoError(t, err)
			ex := d.Examples[0]
			require.Equal(t, c.tokens, toy{}.text(ex.Tokens))
			require.Equal(t, c.types, ex.Types)
			require.Equal(t, []int32{c.class}, ex.Labels)
			require.Equal(t, c.labels, strings.Join(d.Labels, ","))
			require.Equal(t, model.SingleLabel, d.Problem)
			cut := 0
			if strings.HasPrefix(c.name, "cut") {
				cut = 1
			}
			require.Equal(t, cut, d.Stats.Truncated)
		})
	}
}

func TestTargets(t *testing.T) {
	cls := model.SequenceClassification
	d, err := loadText(t, "a.jsonl", `{"text":"a","labels":["x","z"]}`+"\n"+`{"text":"b","labels":["y"]}`+"\n"+`{"text":"c","labels":[]}`, Options{Task: cls})
	require.NoError(t, err)
	require.Equal(t, model.MultiLabel, d.Problem)
	require.Equal(t, []string{"x", "y", "z"}, d.Labels)
	b := d.Batch([]int{0, 2, 1})
	require.Equal(t, []float32{1, 0, 1, 0, 0, 0, 0, 1, 0}, b.Targets)
	require.Len(t, b.Seqs, 3)
	require.Empty(t, b.Labels)
	require.Equal(t, 9, Labelled(b))
	require.Equal(t, []int{1, 1, 1}, d.Stats.Classes)
	require.Equal(t, 1, d.Stats.Several)

	d, err = loadText(t, "a.tsv", "sentence1\tsentence2\tlabel\na\tb\t3.8\nc\td\t5\n", Options{Task: cls})
	require.NoError(t, err)
	require.Equal(t, model.Regression, d.Problem)
	require.Equal(t, []string{"LABEL_0"}, d.Labels)
	require.Equal(t, []float32{3.8, 5}, d.Batch([]int{0, 1}).Targets)

	d, err = loadText(t, "a.jsonl", `{"text":"a","labels":[1,2.5]}`, Options{Task: cls})
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2.5}, d.Examples[0].Targets)

	for _, c := range []struct {
		name, content string
		o             Options
		want          []string
	}{
		{"unknown label", `{"text":"a","label":"c"}`, Options{Labels: []string{"a", "b"}}, []string{"a.jsonl:1", `label "c"`, "expected one of a, b"}},
		{"number out of range", `{"text":"a","label":2}`, Options{Labels: []string{"a", "b"}}, []string{`label "2"`}},
		{"several for one", `{"text":"a","label":["a","b"]}`, Options{Problem: model.SingleLabel}, []string{"2 labels", "expected one of a, b"}},
		{"no number", `{"text":"a","label":"x"}`, Options{Problem: model.Regression}, []string{`label "x"`, "expected a number"}},
		{"null", `{"text":"a","label":null}`, Options{}, []string{`"label" is null`, "a name, a number"}},
		{"no label", `{"text":"a"}`, Options{}, []string{"fields text", "text and label"}},
		{"label given twice", `{"text":"a","label":"a"}`, Options{Labels: []string{"a", "a"}}, []string{`"a" is empty or given twice`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Task = cls
			_, err := loadText(t, "a.jsonl", c.content, c.o)
			require.Error(t, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func TestTagging(t *testing.T) {
	d, err := loadText(t, "a.jsonl", `{"tokens":["EU","b"],"ner_tags":["B-ORG","O"]}`+"\n"+`{"tokens":["c"],"ner_tags":["O"]}`, Options{Task: model.TokenClassification})
	require.NoError(t, err)
	require.Equal(t, []string{"B-ORG", "O"}, d.Labels)
	// The bytes of a word are its tokens; every word gets the space that the toy
	// tokenizer keeps with it.
	require.Equal(t, "<s> EU b</s>", toy{}.text(d.Examples[0].Tokens))
	require.Equal(t, []int32{Ignore, 0, Ignore, Ignore, 1, Ignore, Ignore}, d.Examples[0].Labels)
	require.Equal(t, []int{1, 2}, d.Stats.Classes)
	b := d.Batch([]int{0, 1})
	require.Equal(t, slices.Concat(d.Examples[0].Labels, d.Examples[1].Labels), b.Labels)
	require.Equal(t, 3, Labelled(b))

	d, err = loadText(t, "a.tsv", "tokens\ttags\nEU b\tB-ORG O\n", Options{Task: model.TokenClassification, MaxSeqLen: 6})
	require.NoError(t, err)
	require.Equal(t, "<s> EU </s>", toy{}.text(d.Examples[0].Tokens))
	require.Equal(t, []int32{Ignore, 0, Ignore, Ignore, 1, Ignore}, d.Examples[0].Labels)
	require.Equal(t, 1, d.Stats.Truncated)

	_, err = loadText(t, "a.jsonl", `{"tokens":["a","b"],"tags":["O"]}`, Options{Task: model.TokenClassification})
	require.ErrorContains(t, err, "2 tokens and 1 tags")
}

func TestSourceAndTarget(t *testing.T) {
	o := Options{Task: model.Seq2SeqLM, Start: 7}
	for _, c := range []struct{ name, file, content string }{
		{"source", "a.jsonl", `{"source":"ab","target":"cd"}`},
		{"prompt", "a.jsonl", `{"prompt":"ab","completion":"cd"}`},
		{"input", "a.jsonl", `{"input":"ab","output":"cd"}`},
		{"document", "a.jsonl", `{"document":"ab","summary":"cd"}`},
		{"instruction", "a.jsonl", `{"instruction":"ab","input":"","output":"cd"}`},
		{"csv", "a.csv", "source,target\nab,cd\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := loadText(t, c.file, c.content, o)
			require.NoError(t, err)
			ex := d.Examples[0]
			require.Equal(t, "<s>ab</s>", toy{}.text(ex.Source))
			require.Equal(t, []int32{7, 'c', 'd', toyEOS}, ex.Tokens)
			require.Equal(t, []int32{Ignore, 'c', 'd', toyEOS}, ex.Labels)
			require.Zero(t, d.Stats.NoEnd)
		})
	}
	d, err := loadText(t, "a.csv", "mr,ref\nabcdefgh,ijklmn\nx,y\n,\n", Options{Task: model.Seq2SeqLM, Columns: Columns{"source": "mr", "completion": "ref"}, MaxSeqLen: 5, MaxTargetLen: 4})
	require.NoError(t, err)
	require.Equal(t, 1, d.Stats.Truncated)
	require.EqualValues(t, 5+3, d.Stats.Cut)
	require.Equal(t, 1, d.Stats.Untrained)
	require.Equal(t, 10, d.Stats.Longest)
	b := d.Batch([]int{0, 1})
	require.Equal(t, "<s>abc</s><s>x</s>", toy{}.text(b.Source.Tokens))
	require.Equal(t, []nn.Span{{Start: 0, End: 5}, {Start: 5, End: 8}}, b.Source.Seqs)
	require.Equal(t, []int32{0, 1, 2, 3, 4, 0, 1, 2}, b.Source.Pos)
	require.Equal(t, []int32{0, 'i', 'j', 'k', 0, 'y'}, b.Tokens)
	require.Equal(t, []int32{'i', 'j', 'k', 'l', 'y', toyEOS}, b.Labels)
	require.Nil(t, b.First)
}

// The first token is trained when a text is trained as a whole, and only then.
func TestFirst(t *testing.T) {
	texts, err := loadText(t, "a.jsonl", `{"text":"ab"}`+"\n"+`{"text":"c"}`, Options{})
	require.NoError(t, err)
	require.Equal(t, []int32{toyBOS, toyBOS}, texts.Batch([]int{0, 1}).First)
	require.Equal(t, 2+1+2, Labelled(texts.Batch([]int{0, 1})))
	answers, err := loadText(t, "a.jsonl", `{"prompt":"a","completion":"b"}`, Options{})
	require.NoError(t, err)
	require.Nil(t, answers.Batch([]int{0}).First)
	all, err := loadText(t, "a.jsonl", `{"prompt":"a","completion":"b"}`, Options{TrainOn: Everything})
	require.NoError(t, err)
	require.Equal(t, []int32{toyBOS}, all.Batch([]int{0}).First)
	require.NotEqual(t, all.Hash(), answers.Hash())
}

func TestHashCoversEveryField(t *testing.T) {
	base := func() *Dataset {
		return &Dataset{Task: model.SequenceClassification, Problem: model.SingleLabel, Labels: []string{"a", "b"},
			Examples: []Example{{Tokens: []int32{1}, Types: []int32{1}, Labels: []int32{0}, Targets: []float32{1}, Source: []int32{2}}}}
	}
	seen := map[string]bool{base().Hash(): true}
	for i, change := range []func(*Dataset){
		func(d *Dataset) { d.Task = model.TokenClassification },
		func(d *Dataset) { d.Problem = model.MultiLabel },
		func(d *Dataset) { d.Labels[1] = "c" },
		func(d *Dataset) { d.Examples[0].Tokens[0] = 3 },
		func(d *Dataset) { d.Examples[0].Types[0] = 0 },
		func(d *Dataset) { d.Examples[0].Labels[0] = 1 },
		func(d *Dataset) { d.Examples[0].Targets[0] = 0 },
		func(d *Dataset) { d.Examples[0].Source[0] = 3 },
		func(d *Dataset) { d.Examples[0].TrainFirst = true },
	} {
		d := base()
		change(d)
		require.False(t, seen[d.Hash()], "change %d", i)
		seen[d.Hash()] = true
	}
}

func TestLook(t *testing.T) {
	for _, c := range []struct {
		content string
		task    model.Task
		labels  []string
	}{
		{`{"text":"a","label":"x"}`, model.SequenceClassification, []string{"x"}},
		{`{"tokens":["a"],"tags":["x"]}`, model.TokenClassification, []string{"x"}},
		{`{"source":"a","target":"x"}`, model.Seq2SeqLM, nil},
		{`{"text":"a"}`, model.CausalLM, nil},
	} {
		path := filepath.Join(t.TempDir(), "a.jsonl")
		require.NoError(t, os.WriteFile(path, []byte(c.content), 0o666))
		s, err := Look(path, Options{})
		require.NoError(t, err)
		require.Equal(t, c.task, s.Task)
		require.Equal(t, c.labels, s.Labels)
	}
	require.True(t, (&Survey{Labels: []string{"0", "1"}}).Fits([]string{"neg", "pos"}))
	require.False(t, (&Survey{Labels: []string{"0", "2"}}).Fits([]string{"neg", "pos"}))
}

// Packing is for causal models: other tasks keep one example in a sequence.
func TestOtherTasksDoNotPack(t *testing.T) {
	d := &Dataset{Task: model.SequenceClassification, Examples: make([]Example, 5)}
	e, err := d.Epoch(Plan{BatchSize: 2, Pack: true, MaxTokens: 100}, 0)
	require.NoError(t, err)
	require.Equal(t, [][]int{{0, 1}, {2, 3}, {4}}, e)
}

// The files that people know are read with columns named.
func TestRealSets(t *testing.T) {
	cls := model.SequenceClassification
	for _, c := range []struct {
		path     string
		o        Options
		examples int
		labels   int
		first    string
		class    string
	}{
		{"cola/in_domain_train.tsv", Options{Task: cls, Names: []string{"origin", "label", "mark", "sentence"}}, 8551, 2, "Our friends won't buy this analysis, let alone the next one we propose.", "1"},
		{"cola/in_domain_dev.tsv", Options{Task: cls, Names: []string{"origin", "label", "mark", "sentence"}}, 527, 2, "The sailors rode the breeze clear of the rocks.", "1"},
		{"sst2/dev.tsv", Options{Task: cls, Names: []string{"text", "label"}}, 872, 2, "one long string of cliches", "0"},
		{"sms_spam/sms.tsv", Options{Task: cls, Names: []string{"label", "text"}}, 0, 2, "", "ham"},
		{"banking77/train.csv", Options{Task: cls, Columns: Columns{"label": "category"}}, 10003, 77, "I am still waiting on my card?", "card_arrival"},
		{"banking77", Options{Task: cls, Part: "test", Columns: Columns{"label": "category"}}, 3080, 77, "How do I locate my card?", "card_arrival"},
		{"e2e/devset.csv", Options{Task: model.Seq2SeqLM, Columns: Columns{"source": "mr", "target": "ref"}}, 4672, 0, "name[Alimentum], area[city centre], familyFriendly[no]", ""},
	} {
		t.Run(c.path, func(t *testing.T) {
			c.o.Tokenizer = toy{}
			d, err := Load(testdata.Dir(t, "text", c.path), c.o)
			require.NoError(t, err)
			if c.examples > 0 {
				require.Len(t, d.Examples, c.examples)
			}
			require.Len(t, d.Labels, c.labels)
			ex := d.Examples[0]
			text := ex.Tokens
			if ex.Source != nil {
				text = ex.Source
			}
			if c.first != "" {
				require.Equal(t, "<s>"+c.first+"</s>", toy{}.text(text))
			}
			if c.class != "" {
				require.Equal(t, c.class, d.Labels[ex.Labels[0]])
			}
		})
	}
}

func TestLabelFile(t *testing.T) {
	b, err := WriteLabels([]string{"no", "yes"}, model.SingleLabel)
	require.NoError(t, err)
	require.JSONEq(t, `{"id2label":{"0":"no","1":"yes"},"label2id":{"no":0,"yes":1},"problem_type":"single_label_classification"}`, string(b))
	labels, p, err := ReadLabels(b)
	require.NoError(t, err)
	require.Equal(t, []string{"no", "yes"}, labels)
	require.Equal(t, model.SingleLabel, p)
	for _, bad := range []string{`{}`, `[`, `{"id2label":{"1":"a"}}`} {
		_, _, err := ReadLabels([]byte(bad))
		require.Error(t, err)
	}
}
