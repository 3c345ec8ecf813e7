package tokenizer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// Keys of a GGUF tokenizer of model t5.
const (
	keySpacePrefix = ggml + "add_space_prefix"
	keyExtraSpaces = ggml + "remove_extra_whitespaces"
	keyCharsmap    = ggml + "precompiled_charsmap"
)

// unigramGGUF describes a tokenizer of model t5 in the terms of tokenizer.json.
func unigramGGUF(s *spec, meta formats.Meta, text []string, types []int32) error {
	scores, ok := meta.Get(ggml + "scores").([]float32)
	if !ok || len(scores) != len(text) {
		return fmt.Errorf("tokenizer.ggml.scores is %T of %d entries, want a list of float32 for %d tokens", meta.Get(ggml+"scores"), len(scores), len(text))
	}
	m := &s.Model
	m.Type, s.longest = "Unigram", true
	m.pieces = make([]scoredWord, len(text))
	for i, t := range text {
		m.pieces[i] = scoredWord{t, float64(scores[i])}
		m.ByteFallback = m.ByteFallback || types[i] == typeByte
	}
	charsmap, err := charsmapBytes(meta.Get(keyCharsmap))
	if err != nil {
		return err
	}
	prefix, _ := meta.Get(keySpacePrefix).(bool)
	extra, _ := meta.Get(keyExtraSpaces).(bool)
	var parts []string
	if len(charsmap) > 0 {
		parts = append(parts, fmt.Sprintf(`{"type":"Precompiled","precompiled_charsmap":%q}`, base64.StdEncoding.EncodeToString(charsmap)))
	}
	scheme := "never"
	switch {
	case extra:
		replace := `{"type":"Replace","pattern":{"Regex":%s},"content":%q}`
		parts = append(parts, fmt.Sprintf(replace, mustJSON(spaceEnds), ""), fmt.Sprintf(replace, mustJSON(spaceRuns), " "))
		if prefix {
			scheme = "always"
		}
	case prefix: // even before a text that begins with a space
		parts = append(parts, `{"type":"Prepend","prepend":" "}`)
	}
	if len(parts) > 0 {
		s.Normalizer = json.RawMessage(`{"type":"Sequence","normalizers":[` + strings.Join(parts, ",") + `]}`)
	}
	s.PreTokenizer = json.RawMessage(fmt.Sprintf(`{"type":"Metaspace","replacement":"▁","prepend_scheme":%q,"split":%v}`, scheme, cuttable(m.vocab)))
	if prefix {
		scheme = "always"
	}
	s.Decoder = json.RawMessage(fmt.Sprintf(`{"type":"Metaspace","replacement":"▁","prepend_scheme":%q,"split":true}`, scheme))
	if m.ByteFallback {
		s.Decoder = spmDecoder(prefix)
	}
	return nil
}

// charsmapBytes reads an array of bytes, signed or not.
func charsmapBytes(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []uint8:
		return v, nil
	case []int8:
		b := make([]byte, len(v))
		for i, x := range v {
			b[i] = byte(x)
		}
		return b, nil
	}
	return nil, fmt.Errorf("%s is a %T, want a list of bytes", keyCharsmap, v)
}

// unigramEntries writes a Unigram tokenizer.
func (t *Tokenizer) unigramEntries(kv *formats.Meta, size int) error {
	charsmap, prefix, extra, err := t.unigramSteps()
	if err != nil {
		return err
	}
	tokens, scores, kinds := make([]string, size), make([]float32, size), make([]int32, size)
	for id := range tokens {
		tokens[id], scores[id], kinds[id] = padName(id), -10000, typeUnused
		if id < len(t.spec.Model.pieces) {
			p := t.spec.Model.pieces[id]
			tokens[id], scores[id], kinds[id] = p.text, float32(p.score), typeNormal
			if _, ok := byteToken(p.text); ok && t.spec.Model.ByteFallback {
				kinds[id] = typeByte
			}
		}
		if a := t.added[int32(id)]; a != nil {
			known := id < len(t.spec.Model.pieces)
			tokens[id], kinds[id] = addedEntry(a)
			if !known {
				scores[id] = -1000
			}
			if int32(id) == t.model.unknown() {
				kinds[id] = typeUnknown
			}
		}
	}
	kv.Set(ggml+"model", "t5")
	kv.Set(ggml+"pre", "default")
	kv.Set(ggml+"tokens", tokens)
	kv.Set(ggml+"scores", scores)
	kv.Set(ggml+"token_type", kinds)
	kv.Set(keySpacePrefix, prefix)
	kv.Set(keyExtraSpaces, extra)
	if len(charsmap) > 0 {
		kv.Set(keyCharsmap, charsmap)
	}
	return nil
}

// unigramSteps checks that a tokenizer.json does what a GGUF tokenizer of model
// t5 can say, and returns how it normalizes.
func (t *Tokenizer) unigramSteps() (charsmap []byte, prefix, extra bool, err error) {
	bad := func(what string) ([]byte, bool, bool, error) {
		return nil, false, false, fmt.Errorf("tokenizer: %s has no equal in a GGUF tokenizer of model t5", what)
	}
	n, err := parse("normalizer", t.spec.Normalizer)
	if err != nil {
		return nil, false, false, err
	}
	c, err := parse("pre_tokenizer", t.spec.PreTokenizer)
	if err != nil {
		return nil, false, false, err
	}
	left, right, runs, white := false, false, false, false
	for _, p := range flattenNormalizers(n) {
		switch {
		case p.Type == "Precompiled" && charsmap == nil && !left && !right && !runs:
			if p.Charsmap != nil {
				if charsmap, err = base64.StdEncoding.DecodeString(*p.Charsmap); err != nil {
					return nil, false, false, fmt.Errorf("precompiled_charsmap: %w", err)
				}
			}
		case p.Type == "Strip":
			left, right = left || orTrue(p.StripLeft), right || orTrue(p.StripRight)
		case p.Type == "Replace" && p.Pattern.Regex != nil && *p.Pattern.Regex == spaceEnds && p.Content == "":
			left, right = true, true
		case p.Type == "Replace" && p.Pattern.Regex != nil && *p.Pattern.Regex == spaceRuns && (p.Content == " " || p.Content == mark):
			runs = true
		case p.Type == "Prepend" && (p.Prepend == " " || p.Prepend == mark):
			prefix = true
		case p.Type == "Replace" && p.Pattern.String != nil && *p.Pattern.String == " " && p.Content == mark:
		default:
			return bad("the normalizer " + p.Type)
		}
	}
	steps := flatten(c)
	if len(steps) > 0 && steps[0].Type == "WhitespaceSplit" {
		white, steps = true, steps[1:]
	}
	if len(steps) != 1 || steps[0].Type != "Metaspace" || steps[0].Replacement != "" && steps[0].Replacement != mark {
		return bad("a pre_tokenizer other than Metaspace")
	}
	prefix = prefix || steps[0].PrependScheme != "never" && orTrue(steps[0].AddPrefixSpace)
	return charsmap, prefix, white || runs && (left || right), nil
}

func flattenNormalizers(c *component) []*component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []*component{c}
	}
	var out []*component
	for i := range c.Normalizers {
		out = append(out, flattenNormalizers(&c.Normalizers[i])...)
	}
	return out
}
