package tokenizer

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// charsmap is SentencePiece's compiled normalizer: a double-array trie (Darts)
// from texts to places in a list of replacements, each ended by a zero byte.
type charsmap struct {
	units []uint32
	texts string
	// ascii holds what becomes of each ASCII character by itself.
	ascii [utf8.RuneSelf]string
	same  [utf8.RuneSelf]bool // it stays as it is
}

// newCharsmap reads the trie's size in bytes (uint32, little endian), the trie
// and the replacements.
func newCharsmap(b []byte) (*charsmap, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("precompiled_charsmap: %d bytes, want at least 4", len(b))
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if n%4 != 0 || n > uint64(len(b)) {
		return nil, fmt.Errorf("precompiled_charsmap: a trie of %d bytes in %d", n, len(b))
	}
	c := &charsmap{units: make([]uint32, n/4), texts: string(b[n:])}
	for i := range c.units {
		c.units[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	if !utf8.ValidString(c.texts) {
		return nil, fmt.Errorf("precompiled_charsmap: the replacements are no UTF-8")
	}
	for r := range c.ascii {
		s := string(rune(r))
		if to, ok := c.transform(s); ok {
			s = to
		}
		c.ascii[r], c.same[r] = s, s == string(rune(r)) && r != '\r'
	}
	return c, nil
}

// transform returns the replacement of the shortest start of s that has one.
func (c *charsmap) transform(s string) (string, bool) {
	to, n := "", 0
	c.starts(s, func(text string, length int) bool {
		to, n = text, length
		return false
	})
	return to, n > 0
}

// starts calls yield for every start of s that has a replacement, the shortest
// first, until yield returns false.
func (c *charsmap) starts(s string, yield func(to string, length int) bool) {
	if len(c.units) == 0 {
		return
	}
	at := offset(c.units[0])
	for i := 0; i < len(s) && s[i] != 0; i++ {
		at ^= uint32(s[i])
		if uint64(at) >= uint64(len(c.units)) {
			return
		}
		u := c.units[at]
		if u&(1<<31|0xFF) != uint32(s[i]) {
			return
		}
		at ^= offset(u)
		if u>>8&1 == 0 {
			continue
		}
		if uint64(at) >= uint64(len(c.units)) {
			return
		}
		from := uint64(c.units[at] &^ (1 << 31))
		if from >= uint64(len(c.texts)) || !utf8.RuneStart(c.texts[from]) {
			return
		}
		to, _, _ := strings.Cut(c.texts[from:], "\x00")
		if !yield(to, i+1) {
			return
		}
	}
}

// offset returns the distance from a unit to its children.
func offset(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }

// longest replaces the longest start that has a replacement, again and again, as
// SentencePiece and llama.cpp do.
func (c *charsmap) longest(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for i := 0; i < len(s); {
		to, n := "", 0
		c.starts(s[i:], func(text string, length int) bool {
			to, n = text, length
			return true
		})
		if n == 0 {
			_, n = utf8.DecodeRuneInString(s[i:])
			to = s[i : i+n]
		}
		b.WriteString(to)
		i += n
	}
	return b.String()
}

// normalize does as the tokenizers library does. It replaces what readers see as one character (a grapheme cluster) of
// less than six bytes as a whole where it can, else character by character.
func (c *charsmap) normalize(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for i := 0; i < len(s); {
		// An ASCII character with another behind it stands alone, but for a
		// line break of two.
		from := i
		for i < len(s) && s[i] < utf8.RuneSelf && c.same[s[i]] && (i+1 == len(s) || s[i+1] < utf8.RuneSelf) {
			i++
		}
		if i > from {
			b.WriteString(s[from:i])
			continue
		}
		if s[i] < utf8.RuneSelf && (i+1 == len(s) || s[i+1] < utf8.RuneSelf && s[i] != '\r') {
			b.WriteString(c.ascii[s[i]])
			i++
			continue
		}
		g := s[i : i+grapheme(s[i:])]
		i += len(g)
		if len(g) < 6 {
			if to, ok := c.transform(g); ok {
				b.WriteString(to)
				continue
			}
		}
		for k := 0; k < len(g); {
			_, w := utf8.DecodeRuneInString(g[k:])
			if to, ok := c.transform(g[k : k+w]); ok {
				b.WriteString(to)
			} else {
				b.WriteString(g[k : k+w])
			}
			k += w
		}
	}
	return b.String()
}

func newPrecompiled(c *component) (func(string) string, error) {
	if c.Charsmap == nil || *c.Charsmap == "" {
		return func(s string) string { return s }, nil
	}
	b, err := base64.StdEncoding.DecodeString(*c.Charsmap)
	if err != nil {
		return nil, fmt.Errorf("precompiled_charsmap: %w", err)
	}
	m, err := newCharsmap(b)
	if err != nil {
		return nil, err
	}
	if c.longest {
		return m.longest, nil
	}
	return m.normalize, nil
}
