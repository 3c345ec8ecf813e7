package data

import (
	"testing"

	"github.com/peftkit/peftkit/model"
)

// No content of a file makes reading, encoding or batching panic, and what was
// read can be trained on.
func FuzzTasks(f *testing.F) {
	for _, s := range []string{
		`{"text":"a","label":"x"}`, `{"text":"a","text_pair":"b","labels":[1,2]}`, `{"text":"a","label":0.5}`, `{"tokens":["a"],"tags":["x"]}`, `{"tokens":"a b","tags":"x y"}`,
		`{"source":"a","target":"b"}`, `{"instruction":"a","output":"b"}`, `[{"sentence":"a","label":true}]`, `{"text":"","label":[]}`,
	} {
		f.Add(s, uint8(4))
	}
	f.Fuzz(func(t *testing.T, content string, limit uint8) {
		for _, task := range []model.Task{model.SequenceClassification, model.TokenClassification, model.Seq2SeqLM} {
			o := Options{Tokenizer: toy{}, Task: task, MaxSeqLen: int(limit)}
			records, _, err := parseRecords("a.jsonl", []byte(content), task, nil, nil, true)
			if err != nil {
				continue
			}
			d, err := New(records, o)
			if err != nil {
				continue
			}
			all := make([]int, len(d.Examples))
			for i := range all {
				all[i] = i
			}
			b := d.Batch(all)
			if len(b.Seqs) != len(all) || Labelled(b) == 0 {
				t.Fatalf("%d sequences of %d examples, %d labels", len(b.Seqs), len(all), Labelled(b))
			}
			for i := range d.Examples {
				if n := len(d.Examples[i].Tokens); limit > 4 && n > int(limit)+1 {
					t.Fatalf("%d tokens, at most %d", n, limit)
				}
			}
			d.Hash()
		}
	})
}
