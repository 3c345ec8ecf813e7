package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// unigram cuts a piece into the tokens of the greatest sum of scores
// (log-probabilities), found by Viterbi's algorithm.
type unigram struct {
	trie     *trie
	scores   []float64
	vocab    map[string]int32
	unk      int32
	penalty  float64     // the score of a character that is no token
	fallback *[256]int32 // byte tokens <0x00> to <0xFF>; nil without byte fallback
}

// scoredWord is one entry of a Unigram vocabulary: ["text", score].
type scoredWord struct {
	text  string
	score float64
}

// UnmarshalJSON reads a list of a text and a score.
func (w *scoredWord) UnmarshalJSON(b []byte) error {
	pair := [2]any{&w.text, &w.score} // the decoder fills what the pointers point to
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if pair[0] == nil || pair[1] == nil {
		return fmt.Errorf("an entry is %s, want a token and its score", b)
	}
	return nil
}

// unkPenalty is how far below the lowest score of the vocabulary that of an
// unknown character lies (SentencePiece).
const unkPenalty = 10

func newUnigram(m *modelJSON) (*unigram, error) {
	if m.UnkID == nil {
		return nil, fmt.Errorf("model.unk_id is missing: a text with unknown characters could not be encoded")
	}
	if *m.UnkID < 0 || *m.UnkID >= len(m.pieces) {
		return nil, fmt.Errorf("model.unk_id is %d, outside the vocabulary of %d", *m.UnkID, len(m.pieces))
	}
	u := &unigram{trie: newTrie(m.vocab), scores: make([]float64, len(m.pieces)), vocab: m.vocab, unk: int32(*m.UnkID)}
	low := math.Inf(1)
	for i, p := range m.pieces {
		if math.IsNaN(p.score) || math.IsInf(p.score, 0) {
			return nil, fmt.Errorf("model.vocab: the score of token %d is no finite number", i)
		}
		u.scores[i] = p.score
		low = min(low, p.score)
	}
	u.penalty = low - unkPenalty
	if m.ByteFallback {
		u.fallback = byteTokens(m.vocab)
	}
	return u, nil
}

func (u *unigram) unknown() int32 { return u.unk }

func (u *unigram) words(w string, s *scratch) { s.word(w, u) }

// hop is the best way to a place of a piece.
type hop struct {
	score float64
	from  int32 // where its last token starts, -1 before there is a way
	id    int32 // its last token
}

func (u *unigram) split(piece string, s *scratch, dst []int32) []int32 {
	best := s.hops[:0]
	best = append(best, hop{from: 0})
	for range len(piece) {
		best = append(best, hop{from: -1})
	}
	for i := 0; i < len(piece); {
		_, w := utf8.DecodeRuneInString(piece[i:])
		till := best[i].score
		alone := false // the character is a token
		node := int32(0)
		for k := i; k < len(piece); k++ {
			if node = u.trie.child(node, piece[k]); node == 0 {
				break
			}
			id := u.trie.ids[node]
			if id < 0 {
				continue
			}
			if h := &best[k+1]; h.from < 0 || u.scores[id]+till > h.score {
				*h = hop{u.scores[id] + till, int32(i), id}
			}
			alone = alone || k+1 == i+w
		}
		if !alone {
			if h := &best[i+w]; h.from < 0 || u.penalty+till > h.score {
				*h = hop{u.penalty + till, int32(i), u.unk}
			}
		}
		i += w
	}
	s.hops = best
	// From the end to the start: neighbouring unknown characters are one.
	ends := s.ids[:0]
	ends = append(ends, int32(len(piece)))
	for at := int32(len(piece)); at > 0; {
		from, id := best[at].from, best[at].id
		for id == u.unk && from > 0 && best[from].id == u.unk {
			from = best[from].from
		}
		ends = append(ends, from)
		at = from
	}
	s.ids = ends
	for i := len(ends) - 1; i > 0; i-- {
		from, to := ends[i], ends[i-1]
		if h := best[to]; h.from == from && h.id != u.unk {
			dst = append(dst, h.id)
		} else {
			dst = u.strange(piece[from:to], dst)
		}
	}
	return dst
}

// strange appends the token of a stretch that is no path of tokens: itself after
// all, its bytes, or the unknown token.
func (u *unigram) strange(s string, dst []int32) []int32 {
	if id, ok := u.vocab[s]; ok {
		return append(dst, id)
	}
	if u.fallback != nil && hasBytes(u.fallback, s) {
		for i := 0; i < len(s); i++ {
			dst = append(dst, u.fallback[s[i]])
		}
		return dst
	}
	return append(dst, u.unk)
}
