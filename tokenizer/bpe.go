package tokenizer

import (
	"math/bits"
	"unicode/utf8"
)

// merge says what a pair of tokens becomes and how early: pairs of lower rank
// merge first.
type merge struct{ rank, id int32 }

// pairTable maps pairs of token ids to merges: open addressing, at most half full.
type pairTable struct {
	keys  []uint64
	vals  []merge
	shift uint
}

const noPair = ^uint64(0)

func pairKey(l, r int32) uint64 { return uint64(uint32(l))<<32 | uint64(uint32(r)) }

func newPairTable(n int) *pairTable {
	size := 1 << bits.Len(uint(2*n+1))
	t := &pairTable{keys: make([]uint64, size), vals: make([]merge, size), shift: uint(64 - bits.Len(uint(size-1)))}
	for i := range t.keys {
		t.keys[i] = noPair
	}
	return t
}

func (t *pairTable) slot(key uint64) int {
	i := int(key * 0x9E3779B97F4A7C15 >> t.shift)
	for t.keys[i] != key && t.keys[i] != noPair {
		if i++; i == len(t.keys) {
			i = 0
		}
	}
	return i
}

// add keeps the first merge of a pair and reports whether it was new.
func (t *pairTable) add(l, r int32, m merge) bool {
	i := t.slot(pairKey(l, r))
	if t.keys[i] != noPair {
		return false
	}
	t.keys[i], t.vals[i] = pairKey(l, r), m
	return true
}

func (t *pairTable) get(l, r int32) (merge, bool) {
	i := t.slot(pairKey(l, r))
	return t.vals[i], t.keys[i] != noPair
}

// bpe turns a word into tokens: its smallest units, then merges by rank.
type bpe struct {
	pairs *pairTable
	// simple is set when no token is the product of two different pairs. Then
	// a plain scan for the lowest rank gives what the queue gives.
	simple bool
	// Ids from n on stand for the characters of hidden, which are no token
	// themselves but part of one, and never leave this type.
	n      int32
	hidden []rune

	byteLevel bool
	bytes     [256]int32 // byte level: the token of each byte, -1 if there is none

	ascii    [utf8.RuneSelf]int32 // characters: the unit of each, -1 if there is none
	runes    map[rune]int32
	fallback *[256]int32 // byte tokens <0x00> to <0xFF>; nil without byte fallback
	unk      int32       // -1: unknown characters are dropped
	fuseUnk  bool

	whole map[string]int32 // words that are tokens as they are (ignore_merges); nil without

	// bound is set when no token runs across a place where the mark U+2581
	// follows another character: the text may be cut there.
	bound bool
}

type node struct{ id, prev, next int32 } // id -1: merged away

type candidate struct {
	key uint64 // rank, position
	id  int32  // product
}

func (m *bpe) unknown() int32 { return m.unk }

func (m *bpe) split(word string, s *scratch, dst []int32) []int32 {
	if m.whole != nil {
		if id, ok := m.whole[word]; ok {
			return append(dst, id)
		}
	}
	if m.byteLevel {
		s.ids = s.ids[:0]
		for i := 0; i < len(word); i++ {
			if id := m.bytes[word[i]]; id >= 0 {
				s.ids = append(s.ids, id)
			} else if m.unk >= 0 {
				s.ids = append(s.ids, m.unk)
			}
		}
	} else {
		m.units(word, s)
	}
	switch {
	case len(s.ids) < 2:
	case m.simple && len(s.ids) <= 40:
		m.scan(s)
	default:
		m.queue(s)
	}
	if len(m.hidden) == 0 {
		return append(dst, s.ids...)
	}
	for _, id := range s.ids {
		if id < m.n {
			dst = append(dst, id)
		} else {
			dst = m.bytesOf(m.hidden[id-m.n], dst)
		}
	}
	return dst
}

// units fills s.ids with the smallest units of a word of characters.
func (m *bpe) units(word string, s *scratch) {
	s.ids = s.ids[:0]
	unk := false // the last unit is a fused unknown
	for i := 0; i < len(word); {
		c, w := rune(word[i]), 1
		id := int32(-1)
		if c < utf8.RuneSelf {
			id = m.ascii[c]
		} else {
			c, w = utf8.DecodeRuneInString(word[i:])
			if x, ok := m.runes[c]; ok && !(c == utf8.RuneError && w == 1) {
				id = x
			}
		}
		switch {
		case id >= 0:
			s.ids = append(s.ids, id)
			unk = false
		case m.fallback != nil && hasBytes(m.fallback, word[i:i+w]):
			for k := i; k < i+w; k++ {
				s.ids = append(s.ids, m.fallback[word[k]])
			}
			unk = false
		case m.unk >= 0:
			if !(unk && m.fuseUnk) {
				s.ids = append(s.ids, m.unk)
			}
			unk = true
		}
		i += w
	}
}

// hasBytes reports whether every byte of a text has a token.
func hasBytes(tokens *[256]int32, s string) bool {
	for i := 0; i < len(s); i++ {
		if tokens[s[i]] < 0 {
			return false
		}
	}
	return true
}

// bytesOf appends the byte tokens of a character, or the unknown token.
func (m *bpe) bytesOf(r rune, dst []int32) []int32 {
	c := string(r)
	if m.fallback != nil && hasBytes(m.fallback, c) {
		for i := 0; i < len(c); i++ {
			dst = append(dst, m.fallback[c[i]])
		}
	} else if m.unk >= 0 {
		dst = append(dst, m.unk)
	}
	return dst
}

const noRank = 1<<31 - 1

func (m *bpe) rank(l, r int32) int32 {
	if x, ok := m.pairs.get(l, r); ok {
		return x.rank
	}
	return noRank
}

// scan merges the pair of the lowest rank, the leftmost of equals, until none
// is left. Quadratic, but the fastest for short words.
func (m *bpe) scan(s *scratch) {
	ids, ranks := s.ids, s.ranks[:0]
	for i := 0; i+1 < len(ids); i++ {
		ranks = append(ranks, m.rank(ids[i], ids[i+1]))
	}
	for {
		best, at := int32(noRank), -1
		for i, r := range ranks {
			if r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			break
		}
		x, _ := m.pairs.get(ids[at], ids[at+1])
		ids[at] = x.id
		ids = append(ids[:at+1], ids[at+2:]...)
		ranks = append(ranks[:at], ranks[at+1:]...)
		if at > 0 {
			ranks[at-1] = m.rank(ids[at-1], ids[at])
		}
		if at < len(ranks) {
			ranks[at] = m.rank(ids[at], ids[at+1])
		}
	}
	s.ids, s.ranks = ids, ranks
}

// queue does the same in n log n with a priority queue by rank, then position.
// As in Hugging Face's tokenizers and in llama.cpp, an entry counts when the pair
// at its position still makes the token that it was entered for, though it may
// be another pair by now.
func (m *bpe) queue(s *scratch) {
	nodes, heap := s.nodes[:0], s.heap[:0]
	for i, id := range s.ids {
		nodes = append(nodes, node{id, int32(i - 1), int32(i + 1)})
	}
	nodes[len(nodes)-1].next = -1
	for i := 0; i+1 < len(nodes); i++ {
		if x, ok := m.pairs.get(nodes[i].id, nodes[i+1].id); ok {
			heap = append(heap, candidate{uint64(uint32(x.rank))<<32 | uint64(i), x.id})
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		down(heap, i)
	}
	for len(heap) > 0 {
		top := heap[0]
		heap[0] = heap[len(heap)-1]
		heap = heap[:len(heap)-1]
		down(heap, 0)
		at := int32(uint32(top.key))
		left := &nodes[at]
		if left.id < 0 || left.next < 0 {
			continue
		}
		right := &nodes[left.next]
		if x, ok := m.pairs.get(left.id, right.id); !ok || x.id != top.id {
			continue
		}
		left.id, right.id = top.id, -1
		if left.next = right.next; left.next >= 0 {
			nodes[left.next].prev = at
			if x, ok := m.pairs.get(left.id, nodes[left.next].id); ok {
				heap = push(heap, candidate{uint64(uint32(x.rank))<<32 | uint64(at), x.id})
			}
		}
		if p := left.prev; p >= 0 {
			if x, ok := m.pairs.get(nodes[p].id, left.id); ok {
				heap = push(heap, candidate{uint64(uint32(x.rank))<<32 | uint64(p), x.id})
			}
		}
	}
	s.ids = s.ids[:0]
	for i := int32(0); i >= 0; i = nodes[i].next {
		s.ids = append(s.ids, nodes[i].id)
	}
	s.nodes, s.heap = nodes, heap
}

func push(h []candidate, c candidate) []candidate {
	h = append(h, c)
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if h[p].key <= h[i].key {
			break
		}
		h[p], h[i] = h[i], h[p]
		i = p
	}
	return h
}

func down(h []candidate, i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].key < h[c].key {
			c++
		}
		if h[i].key <= h[c].key {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
