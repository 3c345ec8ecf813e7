package tokenizer

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

const mark = "\u2581" // SentencePiece writes a space so

// newModel builds the model of a tokenizer whose ids are below size.
func newModel(m *modelJSON, byteLevel bool, size int) (subwords, error) {
	switch m.Type {
	case "WordPiece":
		return newWordPiece(m)
	case "Unigram":
		return newUnigram(m)
	}
	return newBPE(m, byteLevel, size)
}

// newBPE builds a BPE model.
func newBPE(m *modelJSON, byteLevel bool, size int) (*bpe, error) {
	switch {
	case m.Prefix != nil && *m.Prefix != "":
		return nil, &UnsupportedError{"model continuing_subword_prefix", *m.Prefix, []string{"none"}}
	case m.Suffix != nil && *m.Suffix != "":
		return nil, &UnsupportedError{"model end_of_word_suffix", *m.Suffix, []string{"none"}}
	}
	b := &bpe{byteLevel: byteLevel, n: int32(size), unk: -1, fuseUnk: m.FuseUnk}
	if m.Unk != nil && *m.Unk != "" {
		id, ok := m.vocab[*m.Unk]
		if !ok {
			return nil, fmt.Errorf("model.unk_token %q is not in the vocabulary", *m.Unk)
		}
		b.unk = id
	}
	if byteLevel {
		for c := range b.bytes {
			b.bytes[c] = -1
			if id, ok := m.vocab[string(byteToRune[c])]; ok {
				b.bytes[c] = id
			}
		}
	} else {
		b.setUnits(m)
	}
	if m.IgnoreMerges {
		b.whole = make(map[string]int32, len(m.vocab))
		for t, id := range m.vocab {
			if byteLevel {
				t = fromByteLevel(t)
			}
			b.whole[t] = id
		}
	}
	if m.scores != nil {
		b.joinAll(m)
	} else if err := b.setMerges(m); err != nil {
		return nil, err
	}
	if !byteLevel && !m.IgnoreMerges {
		r, _ := utf8.DecodeRuneInString(mark)
		_, known := b.runes[r]
		b.bound = known && cuttable(m.vocab)
	}
	return b, nil
}

// setUnits fills the tables of single characters and byte tokens.
func (b *bpe) setUnits(m *modelJSON) {
	for i := range b.ascii {
		b.ascii[i] = -1
	}
	b.runes = map[rune]int32{}
	for t, id := range m.vocab {
		if r, w := utf8.DecodeRuneInString(t); w == len(t) && w > 0 && !(r == utf8.RuneError && w == 1) {
			b.setUnit(r, id)
		}
	}
	if m.ByteFallback {
		b.fallback = byteTokens(m.vocab)
	}
}

// byteTokens finds the tokens <0x00> to <0xFF>, -1 where there is none.
func byteTokens(vocab map[string]int32) *[256]int32 {
	out := new([256]int32)
	for c := range out {
		out[c] = -1
		if id, ok := vocab[fmt.Sprintf("<0x%02X>", c)]; ok {
			out[c] = id
		}
	}
	return out
}

func (b *bpe) setUnit(r rune, id int32) {
	if r < utf8.RuneSelf {
		b.ascii[r] = id
	} else {
		b.runes[r] = id
	}
}

// setMerges takes the merges of the file in order.
func (b *bpe) setMerges(m *modelJSON) error {
	b.pairs = newPairTable(len(m.merges))
	b.simple = true
	made := make(map[int32]bool, len(m.merges))
	for i, p := range m.merges {
		l, ok1 := m.vocab[p[0]]
		r, ok2 := m.vocab[p[1]]
		id, ok3 := m.vocab[p[0]+p[1]]
		if !ok1 || !ok2 || !ok3 {
			for k, t := range []string{p[0], p[1], p[0] + p[1]} {
				if ok := []bool{ok1, ok2, ok3}[k]; !ok {
					return fmt.Errorf("merge %d, %q and %q: %q is not in the vocabulary", i, p[0], p[1], t)
				}
			}
		}
		if b.pairs.add(l, r, merge{int32(i), id}) {
			b.simple = b.simple && !made[id]
			made[id] = true
		}
	}
	return nil
}

// joinAll makes a merge of every pair of tokens that join to a token, ranked by
// the token's score. Characters that are part of a token but no token get an id
// of their own above the vocabulary, so that merges through them are found.
func (b *bpe) joinAll(m *modelJSON) {
	type product struct {
		text string
		id   int32
	}
	var all []product
	for t, id := range m.vocab {
		if utf8.RuneCountInString(t) < 2 {
			continue
		}
		all = append(all, product{t, id})
		for _, r := range t {
			known := false
			if r < utf8.RuneSelf {
				known = b.ascii[r] >= 0
			} else {
				_, known = b.runes[r]
			}
			if !known && r != utf8.RuneError {
				b.setUnit(r, b.n+int32(len(b.hidden)))
				b.hidden = append(b.hidden, r)
			}
		}
	}
	sort.Slice(all, func(i, j int) bool {
		if a, c := m.scores[all[i].id], m.scores[all[j].id]; a != c {
			return a > c
		}
		return all[i].id < all[j].id
	})
	id := func(t string) (int32, bool) {
		if id, ok := m.vocab[t]; ok {
			return id, true
		}
		r, w := utf8.DecodeRuneInString(t)
		if w != len(t) {
			return 0, false
		}
		if r < utf8.RuneSelf {
			return b.ascii[r], b.ascii[r] >= 0
		}
		x, ok := b.runes[r]
		return x, ok
	}
	type pair struct {
		l, r int32
		m    merge
	}
	var pairs []pair
	rank := int32(-1)
	for i, p := range all {
		if i == 0 || m.scores[p.id] != m.scores[all[i-1].id] {
			rank++
		}
		for k := range p.text {
			if k == 0 {
				continue
			}
			l, ok := id(p.text[:k])
			if !ok {
				continue
			}
			if r, ok := id(p.text[k:]); ok {
				pairs = append(pairs, pair{l, r, merge{rank, p.id}})
			}
		}
	}
	b.pairs = newPairTable(len(pairs))
	for _, p := range pairs {
		b.pairs.add(p.l, p.r, p.m)
	}
}

// cuttable reports whether no token runs across a mark that follows another
// character.
func cuttable(vocab map[string]int32) bool {
	for t := range vocab {
		for i := strings.Index(t, mark); i >= 0 && i < len(t); {
			if i > 0 && !strings.HasSuffix(t[:i], mark) {
				return false
			}
			next := strings.Index(t[i+len(mark):], mark)
			if next < 0 {
				break
			}
			i += len(mark) + next
		}
	}
	return true
}

// words encodes a piece that the pre-tokenizer made, cut further where that
// changes nothing, so that the parts are found in the cache.
func (b *bpe) words(w string, s *scratch) {
	if b.bound {
		for i := 0; ; {
			k := strings.Index(w[i:], mark)
			if k < 0 {
				break
			}
			if k += i; k > 0 && !strings.HasSuffix(w[:k], mark) {
				s.word(w[:k], b)
				w, k = w[k:], 0
			}
			i = k + len(mark)
		}
	}
	s.word(w, b)
}
