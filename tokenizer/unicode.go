package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Character classes as the tokenizers library has them.
var (
	isOldPunct = differs(punctDiff, unicode.IsPunct)
	isMn       = differs(mnDiff, func(r rune) bool { return unicode.Is(unicode.Mn, r) })
	isMark     = differs(markDiff, unicode.IsMark)
	isControl  = differs(controlDiff, func(r rune) bool {
		return r != '\t' && r != '\n' && r != '\r' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)
	})
	// isWord is \w.
	isWord = differs(wordDiff, func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
	})
)

// isPunctuation is the class of the pre-tokenizers Punctuation and
// BertPreTokenizer: all that ASCII has and category P.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= '!' && r <= '/' || r >= ':' && r <= '@' || r >= '[' && r <= '`' || r >= '{' && r <= '~'
	}
	return isOldPunct(r)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// toLower lowers each character by itself, without regard to those around it.
func toLower(s string) string {
	if strings.IndexFunc(s, isLaterUpper) < 0 {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == 0x130:
			b.WriteString("i\u0307")
		case isLaterUpper(r):
			b.WriteRune(laterLower(r))
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// isLaterUpper tells the capital I with a dot, which becomes two characters, and
// the capitals of Unicode 16 and 17.
func isLaterUpper(r rune) bool {
	return r == 0x130 || r >= 0x1C89 && laterLower(r) != r
}

func laterLower(r rune) rune {
	switch {
	case r >= 0x10D50 && r <= 0x10D65:
		return r + 0x20
	case r >= 0x16EA0 && r <= 0x16EB8:
		return r + 0x1B
	}
	switch r {
	case 0x1C89, 0xA7CC, 0xA7CE, 0xA7D2, 0xA7D4, 0xA7DA:
		return r + 1
	case 0xA7CB:
		return 0x264
	case 0xA7DC:
		return 0x19B
	}
	return r
}

// normalForm returns the function of a Unicode normal form.
func normalForm(f norm.Form) func(string) string {
	later := func(r rune) bool { return r >= 0x32FF && unicode.Is(laterDecomposed, r) }
	compat := func(r rune) bool { return r >= 0x32FF && unicode.Is(laterCompat, r) }
	if f == norm.NFKC || f == norm.NFKD {
		later = compat
	}
	return func(s string) string {
		if isASCII(s) {
			return s
		}
		var b strings.Builder
		for {
			i := strings.IndexFunc(s, later)
			if i < 0 {
				break
			}
			_, w := utf8.DecodeRuneInString(s[i:])
			b.WriteString(stable(f, s[:i]))
			b.WriteString(s[i : i+w])
			s = s[i+w:]
		}
		if b.Len() == 0 {
			return stable(f, s)
		}
		b.WriteString(stable(f, s))
		return b.String()
	}
}

// stable is f.String without what x/text adds to it: a U+034F in every run of
// more than 30 marks (the Stream-Safe format of Unicode's annex 15).
func stable(f norm.Form, s string) string {
	if f.IsNormalString(s) {
		return s
	}
	out := f.String(s)
	if strings.Count(out, cgj) == strings.Count(s, cgj) {
		return out
	}
	rs := decompose(f, s)
	if f == norm.NFC || f == norm.NFKC {
		rs = compose(rs)
	}
	return string(rs)
}

const cgj = "\u034F"

// decompose takes characters apart and puts marks in canonical order.
func decompose(f norm.Form, s string) []rune {
	if f == norm.NFC {
		f = norm.NFD
	} else if f == norm.NFKC {
		f = norm.NFKD
	}
	var out []rune
	for _, r := range s {
		out = append(out, []rune(f.String(string(r)))...)
	}
	for i := 1; i < len(out); i++ { // insertion sort, stable, of each run of marks
		c := class(out[i])
		for k := i; c > 0 && k > 0 && class(out[k-1]) > c; k-- {
			out[k], out[k-1] = out[k-1], out[k]
		}
	}
	return out
}

func class(r rune) uint8 { return norm.NFC.PropertiesString(string(r)).CCC() }

// compose joins marks with the character before them (annex 15, D117).
func compose(rs []rune) []rune {
	out := rs[:0]
	starter, last := -1, uint8(0)
	for _, r := range rs {
		c := class(r)
		if starter >= 0 && (last < c || last == 0 && starter == len(out)-1) {
			if p := []rune(norm.NFC.String(string([]rune{out[starter], r}))); len(p) == 1 {
				out[starter] = p[0]
				continue
			}
		}
		if c == 0 {
			starter = len(out)
		}
		last = c
		out = append(out, r)
	}
	return out
}
