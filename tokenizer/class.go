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

// Letters and numbers of Unicode 15.1 and 16.0, which Hugging Face's tokenizers
// knows and Go 1.26, at 15.0, does not.
var (
	newLetters = &unicode.RangeTable{
		R16: []unicode.Range16{{Lo: 0x1C89, Hi: 0x1C8A, Stride: 1}, {Lo: 0xA7CB, Hi: 0xA7CD, Stride: 1}, {Lo: 0xA7DA, Hi: 0xA7DC, Stride: 1}},
		R32: []unicode.Range32{
			{Lo: 0x105C0, Hi: 0x105F3, Stride: 1}, {Lo: 0x10D4A, Hi: 0x10D65, Stride: 1}, {Lo: 0x10D6F, Hi: 0x10D85, Stride: 1},
			{Lo: 0x10EC2, Hi: 0x10EC4, Stride: 1}, {Lo: 0x11380, Hi: 0x11389, Stride: 1}, {Lo: 0x1138B, Hi: 0x1138E, Stride: 3},
			{Lo: 0x11390, Hi: 0x113B5, Stride: 1}, {Lo: 0x113B7, Hi: 0x113D1, Stride: 26}, {Lo: 0x113D3, Hi: 0x113D3, Stride: 1},
			{Lo: 0x11BC0, Hi: 0x11BE0, Stride: 1}, {Lo: 0x13460, Hi: 0x143FA, Stride: 1}, {Lo: 0x16100, Hi: 0x1611D, Stride: 1},
			{Lo: 0x16D40, Hi: 0x16D6C, Stride: 1}, {Lo: 0x18CFF, Hi: 0x18CFF, Stride: 1}, {Lo: 0x1E5D0, Hi: 0x1E5ED, Stride: 1},
			{Lo: 0x1E5F0, Hi: 0x1E5F0, Stride: 1}, {Lo: 0x2EBF0, Hi: 0x2EE5D, Stride: 1},
		},
	}
	newNumbers = &unicode.RangeTable{R32: []unicode.Range32{
		{Lo: 0x10D40, Hi: 0x10D49, Stride: 1}, {Lo: 0x116D0, Hi: 0x116E3, Stride: 1}, {Lo: 0x11BF0, Hi: 0x11BF9, Stride: 1},
		{Lo: 0x16130, Hi: 0x16139, Stride: 1}, {Lo: 0x16D70, Hi: 0x16D79, Stride: 1}, {Lo: 0x1CCF0, Hi: 0x1CCF9, Stride: 1},
		{Lo: 0x1E5F1, Hi: 0x1E5FA, Stride: 1},
	}}
)

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
	fill(newLetters, letter)
	fill(unicode.N, number)
	fill(unicode.White_Space, space)
	return t
}

func classOf(r rune) uint8 {
	switch {
	case uint32(r) < 1<<16:
		return bmp[r]
	case unicode.Is(unicode.L, r) || unicode.Is(newLetters, r):
		return letter
	case unicode.Is(unicode.N, r) || unicode.Is(newNumbers, r):
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
