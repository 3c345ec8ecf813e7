package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// grapheme returns the length of the first grapheme cluster of s: a character
// with the marks on it (Unicode's annex 29). The rules that make clusters of six
// bytes and more only (Hangul syllables, flags, joined emoji, Indic conjuncts) are
// left out, since charsmap takes those character by character.
func grapheme(s string) int {
	r, i := utf8.DecodeRuneInString(s)
	for i < len(s) {
		next, w := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\r' && next == '\n':
			return i + w
		case breaks(r):
			return i
		case extends(next):
		case precedes(r) && !breaks(next):
		default:
			return i
		}
		r = next
		i += w
	}
	return i
}

// breaks reports whether a character stands alone (Control, CR, LF).
func breaks(r rune) bool {
	if r < 0x300 {
		return r < ' ' || r >= 0x7F && r < 0xA0 || r == 0xAD
	}
	return r != 0x200C && r != 0x200D && !precedes(r) && !extends(r) && (unicode.In(r, unicode.Zl, unicode.Zp, unicode.Cf) ||
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) && !unicode.IsLetter(r))
}

// extends reports whether a character belongs to the one before it (Extend, ZWJ,
// SpacingMark).
func extends(r rune) bool {
	switch {
	case r < 0x300:
		return false
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Other_Grapheme_Extend):
		return true
	case r == 0x200C || r == 0x200D || r == 0xE33 || r == 0xEB3 || r >= 0x1F3FB && r <= 0x1F3FF:
		return true
	}
	return unicode.Is(unicode.Mc, r) && !unicode.Is(notSpacing, r)
}

// notSpacing are the marks of category Mc that are no SpacingMark.
var notSpacing = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x102B, Hi: 0x102C, Stride: 1}, {Lo: 0x1038, Hi: 0x1038, Stride: 1}, {Lo: 0x1062, Hi: 0x1064, Stride: 1}, {Lo: 0x1067, Hi: 0x106D, Stride: 1},
		{Lo: 0x1083, Hi: 0x1083, Stride: 1}, {Lo: 0x1087, Hi: 0x108C, Stride: 1}, {Lo: 0x108F, Hi: 0x108F, Stride: 1}, {Lo: 0x109A, Hi: 0x109C, Stride: 1},
		{Lo: 0x1A61, Hi: 0x1A64, Stride: 1}, {Lo: 0xAA7B, Hi: 0xAA7D, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x11720, Hi: 0x11721, Stride: 1}},
}

// precedes reports whether a character belongs to the one after it (Prepend).
func precedes(r rune) bool {
	if r < 0x600 {
		return false
	}
	switch {
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r), r == 0xD4E, r >= 0x111C2 && r <= 0x111C3, r == 0x113D1, r == 0x1193F, r == 0x11941,
		r >= 0x11A84 && r <= 0x11A89, r == 0x11D46, r == 0x11F02:
		return true
	}
	return false
}
