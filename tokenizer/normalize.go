package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
	"golang.org/x/text/unicode/norm"
)

var normalizers = []string{"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "BertNormalizer", "Precompiled", "StripAccents", "Nmt", "Strip", "Prepend", "Replace", "Sequence"}

// newNormalizer builds the function of a normalizer, nil for none.
func newNormalizer(c *component) (func(string) string, error) {
	if c == nil {
		return nil, nil
	}
	switch c.Type {
	case "NFC":
		return normalForm(norm.NFC), nil
	case "NFD":
		return normalForm(norm.NFD), nil
	case "NFKC":
		return normalForm(norm.NFKC), nil
	case "NFKD":
		return normalForm(norm.NFKD), nil
	case "Lowercase":
		return toLower, nil
	case "BertNormalizer":
		return newBertNormalizer(c), nil
	case "Precompiled":
		return newPrecompiled(c)
	case "StripAccents":
		return func(s string) string { return drop(s, isMark) }, nil
	case "Nmt":
		return nmt, nil
	case "Strip":
		left, right := orTrue(c.StripLeft), orTrue(c.StripRight)
		return func(s string) string {
			if left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}, nil
	case "Prepend":
		return func(s string) string {
			if s == "" {
				return s
			}
			return c.Prepend + s
		}, nil
	case "Replace":
		switch {
		case c.Pattern.String != nil && *c.Pattern.String != "":
			from := *c.Pattern.String
			return func(s string) string { return strings.ReplaceAll(s, from, c.Content) }, nil
		case c.Pattern.Regex != nil && *c.Pattern.Regex == spaceRuns:
			return func(s string) string { return replaceRuns(s, c.Content) }, nil
		case c.Pattern.Regex != nil && *c.Pattern.Regex == spaceEnds && c.Content == "":
			return func(s string) string { return strings.Trim(s, " ") }, nil
		case c.Pattern.Regex != nil:
			re, err := regexp2.Compile(*c.Pattern.Regex, regexp2.None)
			if err != nil {
				return nil, &UnsupportedError{"normalizer Replace pattern", err.Error(), []string{"String", "Regex of .NET syntax"}}
			}
			return func(s string) string {
				out, err := re.ReplaceFunc(s, func(regexp2.Match) string { return c.Content }, -1, -1)
				if err != nil { // only a time limit can fail, and there is none
					return s
				}
				return out
			}, nil
		}
		return nil, &UnsupportedError{"normalizer Replace pattern", "of another kind", []string{"String", "Regex"}}
	case "Sequence":
		var fs []func(string) string
		for i := range c.Normalizers {
			f, err := newNormalizer(&c.Normalizers[i])
			if err != nil {
				return nil, err
			}
			fs = append(fs, f)
		}
		return func(s string) string {
			for _, f := range fs {
				s = f(s)
			}
			return s
		}, nil
	}
	return nil, &UnsupportedError{"normalizer", c.Type, normalizers}
}

// Patterns of SentencePiece tokenizers that are done by hand.
const (
	spaceRuns = ` {2,}`
	spaceEnds = `\A +| +\z`
)

// replaceRuns replaces every run of two spaces or more.
func replaceRuns(s, by string) string {
	i := strings.Index(s, "  ")
	if i < 0 {
		return s
	}
	var b strings.Builder
	for i >= 0 {
		b.WriteString(s[:i])
		b.WriteString(by)
		s = strings.TrimLeft(s[i:], " ")
		i = strings.Index(s, "  ")
	}
	b.WriteString(s)
	return b.String()
}

// nmt drops control characters and makes every kind of space a space, as
// SentencePiece's rule nmt does.
func nmt(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, r >= 0x200B && r <= 0x200F, r == 0x2028, r == 0x2029,
			r == 0x2581, r == 0xFEFF, r == utf8.RuneError:
			return ' '
		case r > 0 && r < ' ', r == 0x7F, r == 0x8F, r == 0x9F:
			return -1
		}
		return r
	}, s)
}

func orTrue(b *bool) bool { return b == nil || *b }
