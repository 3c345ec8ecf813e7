package tokenizer

import (
	"strings"
	"sync"
)

// subwords turns pieces of text into tokens: BPE, WordPiece, Unigram.
type subwords interface {
	// words appends the tokens of a piece to s.out.
	words(w string, s *scratch)
	// unknown returns the token for what is not in the vocabulary, -1 for none.
	unknown() int32
}

// splitter is a model that cuts each word by itself, so that results may be kept.
type splitter interface {
	split(word string, s *scratch, dst []int32) []int32
}

// scratch is what one goroutine needs while it encodes.
type scratch struct {
	ids   []int32
	ranks []int32
	nodes []node
	heap  []candidate
	hops  []hop
	cache map[string]span // word to tokens in arena
	arena []int32
	out   []int32
}

type span struct{ start, end int32 }

// Bounds of the word cache of a scratch.
const (
	cacheWords   = 1 << 15
	cacheWordLen = 48
	cacheArena   = 1 << 18
)

// scratches lends a scratch to each goroutine.
type scratches struct{ pool sync.Pool }

func (p *scratches) get() *scratch {
	if s, ok := p.pool.Get().(*scratch); ok {
		return s
	}
	return &scratch{cache: make(map[string]span)}
}

func (p *scratches) put(s *scratch) { p.pool.Put(s) }

// word appends the tokens of a word to s.out, from the cache when they are there.
func (s *scratch) word(word string, m splitter) {
	if len(word) == 0 {
		return
	}
	if len(word) > cacheWordLen {
		s.out = m.split(word, s, s.out)
		return
	}
	if at, ok := s.cache[word]; ok {
		s.out = append(s.out, s.arena[at.start:at.end]...)
		return
	}
	if len(s.cache) >= cacheWords || len(s.arena) >= cacheArena {
		clear(s.cache)
		s.arena = s.arena[:0]
	}
	start := len(s.arena)
	s.arena = m.split(word, s, s.arena)
	s.cache[strings.Clone(word)] = span{int32(start), int32(len(s.arena))}
	s.out = append(s.out, s.arena[start:]...)
}
