package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
)

// marshal writes the tokenizer.json as the tokenizers library lays it out.
func (s *spec) marshal() ([]byte, error) {
	type entry struct {
		token string
		id    int32
	}
	vocab := make([]entry, 0, len(s.Model.vocab))
	for t, id := range s.Model.vocab {
		vocab = append(vocab, entry{t, id})
	}
	sort.Slice(vocab, func(i, j int) bool { return vocab[i].id < vocab[j].id })

	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	val := func(v any) {
		_ = enc.Encode(v) // strings, numbers and raw JSON only
		b.Truncate(b.Len() - 1)
	}
	words := func() {
		for i, e := range vocab {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("\n      ")
			val(e.token)
			b.WriteString(": ")
			val(e.id)
		}
	}
	raw := func(key string, m json.RawMessage) error {
		b.WriteString(",\n  \"" + key + "\": ")
		if isNull(m) {
			b.WriteString("null")
			return nil
		}
		return json.Indent(&b, m, "  ", "  ")
	}
	b.WriteString("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [")
	for i, a := range s.Added {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    {\n      \"id\": ")
		val(a.ID)
		b.WriteString(",\n      \"content\": ")
		val(a.Content)
		fmt.Fprintf(&b, ",\n      \"single_word\": %v,\n      \"lstrip\": %v,\n      \"rstrip\": %v,\n      \"normalized\": %v,\n      \"special\": %v\n    }",
			a.SingleWord, a.LStrip, a.RStrip, a.Normalized, a.Special)
	}
	b.WriteString("\n  ]")
	for _, c := range []struct {
		key string
		m   json.RawMessage
	}{{"normalizer", s.Normalizer}, {"pre_tokenizer", s.PreTokenizer}, {"post_processor", s.PostProcessor}, {"decoder", s.Decoder}} {
		if err := raw(c.key, c.m); err != nil {
			return nil, fmt.Errorf("%s: %w", c.key, err)
		}
	}
	b.WriteString(",\n  \"model\": {\n    \"type\": ")
	val(s.Model.Type)
	switch m := &s.Model; m.Type {
	case "WordPiece":
		b.WriteString(",\n    \"unk_token\": ")
		val(m.Unk)
		prefix, longest := "##", 100
		if m.Prefix != nil {
			prefix = *m.Prefix
		}
		if m.MaxChars != nil {
			longest = *m.MaxChars
		}
		b.WriteString(",\n    \"continuing_subword_prefix\": ")
		val(prefix)
		fmt.Fprintf(&b, ",\n    \"max_input_chars_per_word\": %d,\n    \"vocab\": {", longest)
		words()
		b.WriteString("\n    }")
	case "Unigram":
		fmt.Fprintf(&b, ",\n    \"unk_id\": %d,\n    \"vocab\": [", *m.UnkID)
		for i, p := range m.pieces {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("\n      [\n        ")
			val(p.text)
			b.WriteString(",\n        ")
			val(p.score)
			b.WriteString("\n      ]")
		}
		fmt.Fprintf(&b, "\n    ],\n    \"byte_fallback\": %v", m.ByteFallback)
	default:
		b.WriteString(",\n    \"dropout\": null,\n    \"unk_token\": ")
		val(m.Unk)
		fmt.Fprintf(&b, ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": %v,\n    \"byte_fallback\": %v,\n    \"ignore_merges\": %v,\n    \"vocab\": {",
			m.FuseUnk, m.ByteFallback, m.IgnoreMerges)
		words()
		b.WriteString("\n    },\n    \"merges\": [")
		for i, p := range m.merges {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString("\n      [\n        ")
			val(p[0])
			b.WriteString(",\n        ")
			val(p[1])
			b.WriteString("\n      ]")
		}
		b.WriteString("\n    ]")
	}
	b.WriteString("\n  }\n}")
	return b.Bytes(), nil
}
