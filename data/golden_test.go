package data

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tokenizer"
)

// smolTokenizer is that of SmolLM-Instruct, with its chat template.
func smolTokenizer(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	dir := testdata.Dir(t, "tokenizers", "smollm")
	files := map[string][]byte{}
	for _, n := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} {
		b, err := os.ReadFile(filepath.Join(dir, n))
		require.NoError(t, err)
		files[n] = b
	}
	tok, err := tokenizer.FromFiles(files)
	require.NoError(t, err)
	return tok
}

// Tokens and labels are those of transformers (testdata/golden.py).
func TestTokensAreThoseOfTransformers(t *testing.T) {
	var golden struct {
		Chats, Completions, Texts []struct {
			Messages                 []struct{ Role, Content string }
			Prompt, Completion, Text string
			Tokens, Labels           []int32
		}
	}
	b, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &golden))
	tok := smolTokenizer(t)
	check := func(r Record, tokens, labels []int32) *Dataset {
		t.Helper()
		d, err := New([]Record{r}, Options{Tokenizer: tok})
		require.NoError(t, err)
		require.Equal(t, tokens, d.Examples[0].Tokens)
		require.Equal(t, labels, d.Examples[0].Labels)
		require.Zero(t, d.Stats.NoEnd)
		return d
	}
	for _, g := range golden.Chats {
		r := Record{Kind: Chat}
		for _, m := range g.Messages {
			r.Messages = append(r.Messages, Message{Role: m.Role, Content: m.Content})
		}
		check(r, g.Tokens, g.Labels)
	}
	merged := 0
	for _, g := range golden.Completions {
		merged += check(Record{Kind: Completion, Prompt: g.Prompt, Completion: g.Completion}, g.Tokens, g.Labels).Stats.Merged
	}
	require.Equal(t, 1, merged, "the prompt that ends with a space")
	for _, g := range golden.Texts {
		check(Record{Kind: Text, Text: g.Text}, g.Tokens, g.Labels)
	}
}

// Real data sets in their own forms.
func TestRealFiles(t *testing.T) {
	tok := smolTokenizer(t)
	for _, c := range []struct {
		path    []string
		o       Options
		kind    Kind
		records int
	}{
		{[]string{"text", "alpaca_en_demo", "alpaca_en_demo.json"}, Options{}, Instruction, 999},
		{[]string{"text", "banking77", "test.csv"}, Options{Columns: Columns{"prompt": "{text}\nIntent:", "completion": " {category}"}}, Completion, 3080},
		{[]string{"text", "e2e", "devset.csv"}, Options{Columns: Columns{"prompt": "mr", "completion": "ref"}, Chat: true}, Completion, 4672},
		{[]string{"text", "sst2", "dev.tsv"}, Options{Names: []string{"text", "label"}, Columns: Columns{"prompt": "text", "completion": "label"}}, Completion, 872},
		{[]string{"text", "sms_spam", "sms.tsv"}, Options{Names: []string{"label", "text"}, Columns: Columns{"text": "text"}}, Text, 5574},
		{[]string{"text", "cola", "in_domain_dev.tsv"}, Options{Names: []string{"source", "label", "mark", "sentence"}, Columns: Columns{"prompt": "sentence", "completion": "label"}}, Completion, 527},
	} {
		t.Run(c.path[1], func(t *testing.T) {
			c.o.Tokenizer, c.o.MaxSeqLen = tok, 512
			d, err := Load(testdata.Dir(t, c.path...), c.o)
			require.NoError(t, err)
			require.Equal(t, c.kind, d.Stats.Kind)
			require.Equal(t, c.records, d.Stats.Records)
			t.Logf("%+v", d.Stats)
			require.Equal(t, c.records, d.Stats.Examples)
		})
	}
}
