package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// Keys of the normalizer of a GGUF tokenizer of model bert.
const (
	keyLowercase    = ggml + "normalizer.lowercase"
	keyStripAccents = ggml + "normalizer.strip_accents"
)

// fromPhantom turns a token of a GGUF vocabulary of model bert, where the mark
// stands before whole words and nothing before the inside of one, into BERT's
// own writing, where ## stands before the inside. Names in brackets are no words:
// files written before 2024's end leave them without a mark.
func fromPhantom(token string, kind int32) string {
	whole, ok := strings.CutPrefix(token, mark)
	switch {
	case ok:
		return whole
	case kind == typeControl || kind == typeUnknown || strings.HasPrefix(token, "[") && strings.HasSuffix(token, "]"):
		return token
	}
	return "##" + token
}

// toPhantom is the other way.
func toPhantom(token string, kind int32) string {
	if kind == typeControl {
		return token
	}
	if in, ok := strings.CutPrefix(token, "##"); ok {
		return in
	}
	return mark + token
}

// bertGGUF describes a tokenizer of model bert. It is BERT's own, from which
// llama.cpp departs for words of more than 100 characters, Hangul syllables and
// characters of Unicode after version 8.
func bertGGUF(s *spec, meta formats.Meta, sp *specialIDs, text []string) error {
	names := make([]string, len(bertTokens))
	for i, id := range []*int32{&sp.unk, &sp.sep, &sp.pad, &sp.cls, &sp.mask} {
		if names[i] = bertTokens[i]; *id >= 0 {
			names[i] = text[*id]
		} else if at, ok := s.Model.vocab[names[i]]; ok {
			*id = at
		}
	}
	lower := true
	if v, ok := meta.Get(keyLowercase).(bool); ok {
		lower = v
	}
	var accents *bool
	if v, ok := meta.Get(keyStripAccents).(bool); ok {
		accents = &v
	}
	b, err := bertSpec(s.Model.vocab, names, lower, true, accents)
	if err != nil {
		return fmt.Errorf("tokenizer.ggml.tokens: %w", err)
	}
	b.Added = s.Added // those that the file types as such
	*s = *b
	return nil
}

// bertEntries writes a WordPiece tokenizer.
func (t *Tokenizer) bertEntries(kv *formats.Meta, size int) error {
	bad := func(what string) error {
		return fmt.Errorf("tokenizer: %s has no equal in a GGUF tokenizer of model bert", what)
	}
	n, err := parse("normalizer", t.spec.Normalizer)
	if err != nil {
		return err
	}
	c, err := parse("pre_tokenizer", t.spec.PreTokenizer)
	if err != nil {
		return err
	}
	switch m := &t.spec.Model; {
	case n == nil || n.Type != "BertNormalizer" || !orTrue(n.CleanText) || !orTrue(n.HandleChinese):
		return bad("a normalizer other than BertNormalizer with clean_text and handle_chinese_chars")
	case c == nil || c.Type != "BertPreTokenizer":
		return bad("a pre_tokenizer other than BertPreTokenizer")
	case m.Prefix != nil && *m.Prefix != "##":
		return bad("continuing_subword_prefix " + *m.Prefix)
	case len(t.prefix) != 1 || len(t.suffix) != 1 || t.prefix[0] != t.special.cls || t.suffix[0] != t.special.sep:
		return bad("a text that is not framed by the CLS and the SEP token")
	}
	tokens, kinds := t.entries(size)
	for id := range tokens {
		tokens[id] = toPhantom(tokens[id], kinds[id])
	}
	var model struct {
		Types *uint32 `json:"type_vocab_size"`
	}
	if b := t.files["config.json"]; b != nil {
		if err := json.Unmarshal(b, &model); err != nil {
			return fmt.Errorf("config.json: %w", err)
		}
	}
	if model.Types != nil {
		kv.Set(ggml+"token_type_count", *model.Types)
	}
	kv.Set(ggml+"model", "bert")
	kv.Set(ggml+"pre", "bert-bge")
	kv.Set(ggml+"tokens", tokens)
	kv.Set(ggml+"token_type", kinds)
	lower := orTrue(n.Lowercase)
	accents := lower
	if n.StripAccents != nil {
		accents = *n.StripAccents
	}
	if !lower || !accents { // what readers take for granted
		kv.Set(keyLowercase, lower)
		kv.Set(keyStripAccents, accents)
	}
	return nil
}
