package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// Character classes of the pre-tokenizer patterns: \p{L}, \p{N}, \s and the rest.
const (
	other uint8 = iota
	letter
	number
	space
)

// bmp holds the class of every code point below 0x10000, filled from the
// standard library's Unicode tables.
var bmp = classTable()

func classTable() *[1 << 16]uint8 {
	t := new([1 << 16]uint8)
	fill := func(rt *unicode.RangeTable, class uint8) {
		for _, r := range rt.R16 {
			for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
				t[c] = class
			}
		}
	}
	fill(unicode.L, letter)
	fill(unicode.N, number)
	fill(unicode.White_Space, space)
	return t
}

func classOf(r rune) uint8 {
	switch {
	case uint32(r) < 1<<16:
		return bmp[r]
	case unicode.Is(unicode.L, r):
		return letter
	case unicode.Is(unicode.N, r):
		return number
	}
	return other
}

// classAt returns the class and the width of the character s starts with.
func classAt(s string) (uint8, int) {
	if c := s[0]; c < utf8.RuneSelf {
		return bmp[c], 1
	}
	r, w := utf8.DecodeRuneInString(s)
	return classOf(r), w
}

// run returns the end of the run of characters of one class that starts at i.
func run(s string, i int, class uint8) int {
	for i < len(s) {
		c, w := classAt(s[i:])
		if c != class {
			break
		}
		i += w
	}
	return i
}
