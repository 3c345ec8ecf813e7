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
	for _, u := range c.units { // leaves that a walk may read
		if u>>31 == 1 && uint64(u&^(1<<31)) >= 1<<31 {
			return nil, fmt.Errorf("precompiled_charsmap: broken unit %#x", u)
		}
	}
	for r := range c.ascii {
		s := string(rune(r))
		if to, ok := c.transform(s); ok {
			s = to
		}
		c.ascii[r] = s
	}
	return c, nil
}

// transform returns the replacement of the shortest start of s that has one.
// The tokenizers library takes the shortest, SentencePiece the longest.
func (c *charsmap) transform(s string) (string, bool) {
	if len(c.units) == 0 {
		return "", false
	}
	at := offset(c.units[0])
	for i := 0; i < len(s) && s[i] != 0; i++ {
		at ^= uint32(s[i])
		if uint64(at) >= uint64(len(c.units)) {
			return "", false
		}
		u := c.units[at]
		if u&(1<<31|0xFF) != uint32(s[i]) {
			return "", false
		}
		at ^= offset(u)
		if u>>8&1 == 0 {
			continue
		}
		if uint64(at) >= uint64(len(c.units)) {
			return "", false
		}
		from := uint64(c.units[at] &^ (1 << 31))
		if from >= uint64(len(c.texts)) || !utf8.RuneStart(c.texts[from]) {
			return "", false
		}
		to, _, _ := strings.Cut(c.texts[from:], "\x00")
		return to, true
	}
	return "", false
}

// offset returns the distance from a unit to its children.
func offset(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }

// normalize replaces what readers see as one character (a grapheme cluster) of
// less than six bytes as a whole where it can, else character by character.
func (c *charsmap) normalize(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/8)
	for i := 0; i < len(s); {
		// An ASCII character with another behind it stands alone, but for a
		// line break of two.
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
	return m.normalize, nil
}
