package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"unicode/utf8"
)

// A SentencePiece BPE has a score per token and merges whatever pair joins to
// the token of the highest score. A tokenizer.json has a list of merges instead.
// This file goes from one to the other.

// joins calls yield for every way to cut a token of the vocabulary into two.
func joins(vocab map[string]int32, text string, yield func(l, r int32, at int)) {
	for k := range text {
		if k == 0 {
			continue
		}
		if l, ok := vocab[text[:k]]; ok {
			if r, ok := vocab[text[k:]]; ok {
				yield(l, r, k)
			}
		}
	}
}

// scoreMerges derives the merges of a tokenizer.json from scores: every pair of
// tokens that join to a token, by falling score of that token, then by the ids of
// the two parts. That is the order of the files published for Llama 2, Mistral
// and their descendants.
func scoreMerges(m *modelJSON) [][2]string {
	type entry struct {
		text  string
		at    int
		score float32
		l, r  int32
	}
	var all []entry
	for t, id := range m.vocab {
		joins(m.vocab, t, func(l, r int32, at int) { all = append(all, entry{t, at, m.scores[id], l, r}) })
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := &all[i], &all[j]
		switch {
		case a.score != b.score:
			return a.score > b.score
		case a.l != b.l:
			return a.l < b.l
		}
		return a.r < b.r
	})
	out := make([][2]string, len(all))
	for i, e := range all {
		out[i] = [2]string{e.text[:e.at], e.text[e.at:]}
	}
	return out
}

// mergeScores derives scores from merges: 0 for the token that merges first, -1
// for the next and so on, then the tokens that are no product, by id. Tokens whose
// pairs stand mixed had equal scores once, and get equal ones, if the pairs are
// in an order in which converters put equals.
//
// It fails where no scores can do what the merges do: when a pair that joins to
// a token is not in the list, or tokens are mixed in another way.
func mergeScores(m *modelJSON, size int) ([]float32, error) {
	type pair struct{ l, r, id int32 }
	pairs := make([]pair, len(m.merges))
	last := make([]int, size) // the last merge that makes a token
	placed := make([]bool, size)
	listed := make(map[uint64]bool, len(m.merges))
	for i, p := range m.merges {
		pairs[i] = pair{m.vocab[p[0]], m.vocab[p[1]], m.vocab[p[0]+p[1]]}
		last[pairs[i].id] = i
		listed[pairKey(pairs[i].l, pairs[i].r)] = true
	}
	var missing error
	for t := range m.vocab {
		joins(m.vocab, t, func(l, r int32, at int) {
			if !listed[pairKey(l, r)] && missing == nil {
				missing = fmt.Errorf("%q and %q join to a token but are no merge", t[:at], t[at:])
			}
		})
	}
	if missing != nil {
		return nil, missing
	}
	runes := func(i int, part int) int { return utf8.RuneCountInString(m.merges[i][part]) }
	byID := func(i, j int) bool {
		a, b := pairs[i], pairs[j]
		return a.l < b.l || a.l == b.l && a.r < b.r
	}
	byLength := func(i, j int) bool { // falling, as converters since 2024
		a, b := runes(i, 0), runes(j, 0)
		return a > b || a == b && runes(i, 1) >= runes(j, 1)
	}
	scores := make([]float32, size)
	next := 0
	for i := 0; i < len(pairs); {
		end, one := last[pairs[i].id], true
		for k := i; k <= end; k++ {
			end = max(end, last[pairs[k].id])
			one = one && pairs[k].id == pairs[i].id
		}
		ids, lengths := true, true
		for k := i; k < end; k++ {
			ids = ids && byID(k, k+1)
			lengths = lengths && byLength(k, k+1)
		}
		if !one && !ids && !lengths {
			return nil, fmt.Errorf("the merges of %q are mixed with those of other tokens", m.merges[i][0]+m.merges[i][1])
		}
		for k := i; k <= end; k++ {
			scores[pairs[k].id], placed[pairs[k].id] = -float32(next), true
		}
		next++
		i = end + 1
	}
	for id := range scores {
		if !placed[id] {
			scores[id] = -float32(next)
			next++
		}
	}
	return scores, nil
}

// modelPiece is one entry of a SentencePiece model file.
type modelPiece struct {
	text  string
	score float32
	kind  int32 // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
}

// readModelFile reads the pieces of a tokenizer.model: a protocol buffer whose
// field 1 repeats {1: text, 2: score, 3: type}.
func readModelFile(b []byte) ([]modelPiece, error) {
	var out []modelPiece
	err := fields(b, func(num int, v uint64, data []byte) error {
		if num != 1 || data == nil {
			return nil
		}
		p := modelPiece{kind: 1}
		err := fields(data, func(num int, v uint64, data []byte) error {
			switch {
			case num == 1 && data != nil:
				p.text = string(data)
			case num == 2:
				p.score = math.Float32frombits(uint32(v))
			case num == 3:
				p.kind = int32(v)
			}
			return nil
		})
		if err == nil && !utf8.ValidString(p.text) {
			err = fmt.Errorf("piece %d is no UTF-8", len(out))
		}
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tokenizer.model: %w", err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("tokenizer.model: no pieces")
	}
	return out, nil
}

// fields walks a protocol buffer message.
func fields(b []byte, yield func(num int, v uint64, data []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("broken field tag")
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch tag & 7 {
		case 0:
			if v, n = binary.Uvarint(b); n <= 0 {
				return fmt.Errorf("broken varint in field %d", tag>>3)
			}
		case 1:
			if n = 8; len(b) >= n {
				v = binary.LittleEndian.Uint64(b)
			}
		case 2:
			size, k := binary.Uvarint(b)
			if k <= 0 || size > uint64(len(b)-k) {
				return fmt.Errorf("field %d is longer than the message", tag>>3)
			}
			n = k + int(size)
			data = b[k:n:n]
		case 5:
			if n = 4; len(b) >= n {
				v = uint64(binary.LittleEndian.Uint32(b))
			}
		default:
			return fmt.Errorf("field %d has wire type %d", tag>>3, tag&7)
		}
		if n > len(b) {
			return fmt.Errorf("field %d ends after the message", tag>>3)
		}
		b = b[n:]
		if err := yield(int(tag>>3), v, data); err != nil {
			return err
		}
	}
	return nil
}
