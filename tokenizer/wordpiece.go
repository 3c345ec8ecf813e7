package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// wordPiece cuts a word into the longest tokens from the left; those inside a
// word carry a prefix in the vocabulary, ## in BERT's. A word that cannot be cut
// so to its end, or that is too long, is one unknown token.
type wordPiece struct {
	whole, inner map[string]int32 // tokens that begin a word, those inside one
	longest      int              // of all tokens, in bytes without the prefix
	maxChars     int
	unk          int32
}

func newWordPiece(m *modelJSON) (*wordPiece, error) {
	p := &wordPiece{whole: m.vocab, inner: map[string]int32{}, maxChars: 100}
	prefix := "##"
	if m.Prefix != nil {
		prefix = *m.Prefix
	}
	for t, id := range m.vocab {
		if in, ok := strings.CutPrefix(t, prefix); ok {
			p.inner[in] = id
		}
		p.longest = max(p.longest, len(t))
	}
	if m.MaxChars != nil {
		p.maxChars = *m.MaxChars
	}
	unk := "[UNK]"
	if m.Unk != nil {
		unk = *m.Unk
	}
	id, ok := m.vocab[unk]
	if !ok {
		return nil, fmt.Errorf("model.unk_token %q is not in the vocabulary", unk)
	}
	p.unk = id
	return p, nil
}

func (p *wordPiece) unknown() int32 { return p.unk }

func (p *wordPiece) words(w string, s *scratch) { s.word(w, p) }

func (p *wordPiece) split(word string, _ *scratch, dst []int32) []int32 {
	if len(word) > p.maxChars && utf8.RuneCountInString(word) > p.maxChars {
		return append(dst, p.unk)
	}
	mark := len(dst)
	in := p.whole
	for len(word) > 0 {
		n := min(len(word), p.longest)
		id := int32(-1)
		for ; n > 0; n-- {
			if n < len(word) && !utf8.RuneStart(word[n]) {
				continue
			}
			if x, ok := in[word[:n]]; ok {
				id = x
				break
			}
		}
		if id < 0 {
			return append(dst[:mark], p.unk)
		}
		dst = append(dst, id)
		word, in = word[n:], p.inner
	}
	return dst
}
