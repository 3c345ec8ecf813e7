package tokenizer

import "sort"

// trie finds the tokens that a text starts with. Nodes lie level by level, the
// children of one side by side and in the order of their bytes.
type trie struct {
	first  []int32 // the first child of a node; that of the next node ends them
	labels []byte  // the byte that leads to a node
	ids    []int32 // the token that ends at a node, -1 for none
}

// newTrie makes a trie of tokens; empty ones are left out.
func newTrie(vocab map[string]int32) *trie {
	words := make([]string, 0, len(vocab))
	for w := range vocab {
		if w != "" {
			words = append(words, w)
		}
	}
	sort.Strings(words)
	type stretch struct{ from, to, depth int } // words with a start in common
	t := &trie{labels: []byte{0}, ids: []int32{-1}}
	level := []stretch{{0, len(words), 0}}
	for i := 0; i < len(level); i++ {
		s := level[i]
		t.first = append(t.first, int32(len(level)))
		for from := s.from; from < s.to; {
			if len(words[from]) == s.depth { // this node's own word
				from++
				continue
			}
			c := words[from][s.depth]
			to := from + sort.Search(s.to-from, func(k int) bool { return words[from+k][s.depth] > c })
			id := int32(-1)
			if len(words[from]) == s.depth+1 {
				id = vocab[words[from]]
			}
			level = append(level, stretch{from, to, s.depth + 1})
			t.labels = append(t.labels, c)
			t.ids = append(t.ids, id)
			from = to
		}
	}
	t.first = append(t.first, int32(len(level)))
	return t
}

// child returns the node that byte c leads to from a node, 0 when there is none.
func (t *trie) child(node int32, c byte) int32 {
	lo, hi := t.first[node], t.first[node+1]
	for hi-lo > 8 {
		if mid := (lo + hi) / 2; t.labels[mid] <= c {
			lo = mid
		} else {
			hi = mid
		}
	}
	for ; lo < hi; lo++ {
		if t.labels[lo] == c {
			return lo
		}
	}
	return 0
}
