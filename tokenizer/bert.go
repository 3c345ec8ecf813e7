package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// newBertNormalizer builds BERT's normalizer: control characters out and every
// white space a space (clean_text), spaces around Chinese characters, accents
// off (by default when lowercase is set), lower case.
func newBertNormalizer(c *component) func(string) string {
	clean, chinese, lower := orTrue(c.CleanText), orTrue(c.HandleChinese), orTrue(c.Lowercase)
	accents := lower
	if c.StripAccents != nil {
		accents = *c.StripAccents
	}
	nfd := normalForm(norm.NFD)
	return func(s string) string {
		if clean || chinese {
			s = cleanText(s, clean, chinese)
		}
		if accents && !isASCII(s) {
			s = drop(nfd(s), isMn)
		}
		if lower {
			s = toLower(s)
		}
		return s
	}
}

func cleanText(s string, clean, chinese bool) string {
	ok := 0 // so many bytes stay as they are
	for ok < len(s) && (s[ok] >= ' ' && s[ok] < 0x7F || s[ok] < utf8.RuneSelf && !clean) {
		ok++
	}
	if ok == len(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	b.WriteString(s[:ok])
	for _, r := range s[ok:] {
		switch {
		case r >= ' ' && r < 0x7F:
			b.WriteByte(byte(r))
		case clean && (r == 0 || r == utf8.RuneError || isControl(r)):
		case clean && unicode.IsSpace(r):
			b.WriteByte(' ')
		case chinese && isChinese(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isChinese is the range of ideographs that BERT's authors list; kana and hangul
// are written with spaces and not among them.
func isChinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2B73F ||
		r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}

func drop(s string, is func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if is(r) {
			return -1
		}
		return r
	}, s)
}

// bertPieces cuts at white space, which it drops, and around every punctuation
// character.
func bertPieces(s string, start bool, yield func(string, bool)) {
	from := 0
	end := func(i int) {
		if i > from {
			yield(s[from:i], start && from == 0)
		}
	}
	for i := 0; i < len(s); {
		r, w := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, w = utf8.DecodeRuneInString(s[i:])
		}
		switch {
		case unicode.IsSpace(r):
			end(i)
			from = i + w
		case isPunctuation(r):
			end(i)
			from = i
			end(i + w)
			from = i + w
		}
		i += w
	}
	end(len(s))
}
