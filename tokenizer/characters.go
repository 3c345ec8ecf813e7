package tokenizer

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// charsConfig is the part of a config.json that lists characters instead of
// tokens: the pronunciation models of Misaki, which read letters (graphemes) and
// write phonemes. A character's id is its place in the list; the first four
// places, filled with _, stand for padding, the begin and the end of a text and
// unknown characters.
type charsConfig struct {
	Graphemes *string `json:"grapheme_chars"`
	Phonemes  *string `json:"phoneme_chars"`
	PAD       *int32  `json:"pad_token_id"`
	BOS       *int32  `json:"bos_token_id"`
	EOS       *int32  `json:"eos_token_id"`
}

// hasCharacters reports whether a config.json lists characters.
func hasCharacters(config []byte) bool {
	var c struct {
		Graphemes *string `json:"grapheme_chars"`
		Phonemes  *string `json:"phoneme_chars"`
	}
	return json.Unmarshal(config, &c) == nil && c.Graphemes != nil && c.Phonemes != nil
}

// charRoles are the tokens of the first four places.
var charRoles = [4]string{"<pad>", "<s>", "</s>", "<unk>"}

// fromCharacters makes the tokenizer of letters, with that of phonemes as its
// target. Both put <s> and </s> around a text: the released model was trained so.
func fromCharacters(files map[string][]byte) (*Tokenizer, error) {
	var c charsConfig
	if err := readJSON(files, "config.json", &c); err != nil {
		return nil, err
	}
	for want, key := range map[int32]struct {
		name string
		id   *int32
	}{0: {"pad_token_id", c.PAD}, 1: {"bos_token_id", c.BOS}, 2: {"eos_token_id", c.EOS}} {
		if key.id != nil && *key.id != want {
			return nil, fmt.Errorf("config.json: %s is %d, want %d beside grapheme_chars and phoneme_chars", key.name, *key.id, want)
		}
	}
	t, err := characters(*c.Graphemes)
	if err != nil {
		return nil, fmt.Errorf("config.json: grapheme_chars: %w", err)
	}
	if t.target, err = characters(*c.Phonemes); err != nil {
		return nil, fmt.Errorf("config.json: phoneme_chars: %w", err)
	}
	t.files, t.target.files = files, files
	return t, nil
}

// characters makes a tokenizer of single characters: a BPE without merges.
func characters(list string) (*Tokenizer, error) {
	if !utf8.ValidString(list) {
		return nil, fmt.Errorf("no UTF-8")
	}
	runes := []rune(list)
	if len(runes) < len(charRoles) {
		return nil, fmt.Errorf("%d characters, want at least the %d places of special tokens", len(runes), len(charRoles))
	}
	s := &spec{
		Decoder: json.RawMessage(`{"type":"Fuse"}`),
		Model:   modelJSON{Type: "BPE", Unk: &charRoles[3], vocab: map[string]int32{}},
	}
	for i, r := range runes {
		text := string(r)
		if i < len(charRoles) {
			if r != '_' {
				return nil, fmt.Errorf("place %d holds %q, want _", i, r)
			}
			text = charRoles[i]
			s.Added = append(s.Added, addedJSON{ID: int32(i), Content: text, Special: true})
		}
		if old, ok := s.Model.vocab[text]; ok {
			return nil, fmt.Errorf("%q stands at %d and %d", r, old, i)
		}
		s.Model.vocab[text] = int32(i)
	}
	sp := noSpecial()
	sp.pad, sp.bos, sp.eos, sp.unk = 0, 1, 2, 3
	s.PostProcessor = template(true, true, sp, charRoles[:], "BPE")
	t, err := build(s)
	if err != nil {
		return nil, err
	}
	// Letters are all there is: <s> in a text is three characters.
	none := func(s string) string { return s }
	t.raw, t.normalized = newMatcher(nil, none), newMatcher(nil, none)
	t.special = sp
	t.setEOGs()
	return t, nil
}
