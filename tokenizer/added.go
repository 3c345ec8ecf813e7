package tokenizer

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AddedToken is a token that is recognised in the text before anything else
// happens to it.
type AddedToken struct {
	ID      int32
	Content string
	// Special tokens are left out by Decode.
	Special bool
	// Normalized tokens are looked for in the normalised text, the others in
	// the text as it is.
	Normalized bool
	// LStrip and RStrip swallow white space to the left and right.
	LStrip, RStrip bool
	// SingleWord tokens count only where no letter, digit or underscore touches them.
	SingleWord bool
}

// matcher finds added tokens, the leftmost first and of several the longest.
type matcher struct {
	tokens []*AddedToken
	pats   []string // sorted
	ids    []int    // pats[i] is the text of tokens[ids[i]]
	first  [256]bool
}

func newMatcher(tokens []*AddedToken, text func(string) string) *matcher {
	m := &matcher{}
	for _, t := range tokens {
		p := text(t.Content)
		if p == "" {
			continue
		}
		m.tokens = append(m.tokens, t)
		m.pats = append(m.pats, p)
		m.ids = append(m.ids, len(m.tokens)-1)
		m.first[p[0]] = true
	}
	sort.Stable(byPattern{m})
	return m
}

type byPattern struct{ *matcher }

func (b byPattern) Len() int           { return len(b.pats) }
func (b byPattern) Less(i, j int) bool { return b.pats[i] < b.pats[j] }
func (b byPattern) Swap(i, j int) {
	b.pats[i], b.pats[j] = b.pats[j], b.pats[i]
	b.ids[i], b.ids[j] = b.ids[j], b.ids[i]
}

// at returns the index of the longest pattern that s starts with, or -1.
// Patterns are narrowed byte by byte in the sorted list.
func (m *matcher) at(s string) int {
	lo, hi, best := 0, len(m.pats), -1
	for k := 0; lo < hi; k++ {
		if len(m.pats[lo]) == k { // a pattern that is wholly matched sorts first
			best = lo
			for lo < hi && len(m.pats[lo]) == k {
				lo++
			}
			if lo == hi {
				break
			}
		}
		if k == len(s) {
			break
		}
		c := s[k]
		a := lo + sort.Search(hi-lo, func(i int) bool { return m.pats[lo+i][k] >= c })
		hi = a + sort.Search(hi-a, func(i int) bool { return m.pats[a+i][k] > c })
		lo = a
	}
	return best
}

// split calls text for the stretches between added tokens, with their offset,
// and token for the tokens, in order.
func (m *matcher) split(s string, text func(s string, at int), token func(*AddedToken)) {
	if len(m.pats) == 0 {
		if s != "" {
			text(s, 0)
		}
		return
	}
	done := 0
	for i := 0; i < len(s); {
		if !m.first[s[i]] {
			i++
			continue
		}
		k := m.at(s[i:])
		if k < 0 {
			i++
			continue
		}
		t, start, end := m.tokens[m.ids[k]], i, i+len(m.pats[k])
		i = end
		if t.SingleWord && (endsWord(s[:start]) || startsWord(s[end:])) {
			continue
		}
		if t.LStrip {
			start = max(done, len(strings.TrimRightFunc(s[:start], unicode.IsSpace)))
		}
		if t.RStrip {
			end = len(s) - len(strings.TrimLeftFunc(s[end:], unicode.IsSpace))
		}
		if start < done { // inside white space that the token before swallowed
			start = done
		}
		if start > done {
			text(s[done:start], done)
		}
		token(t)
		done = max(done, end)
		i = max(i, done)
	}
	if done < len(s) {
		text(s[done:], done)
	}
}

func endsWord(s string) bool {
	r, w := utf8.DecodeLastRuneInString(s)
	return w > 0 && isWord(r)
}

func startsWord(s string) bool {
	r, w := utf8.DecodeRuneInString(s)
	return w > 0 && isWord(r)
}
