package tokenizer

import "unicode/utf8"

// newStarts returns a function that tells whether the first character of a text
// leaves anything behind when it is normalized, nil when no pre-tokenizer asks.
// The prepend_scheme "first" of Metaspace goes by the place in the original
// text: a text whose leading space was stripped gets no mark.
func newStarts(normalizer, pre *component) (func(string) bool, error) {
	asks := false
	for _, c := range flatten(pre) {
		asks = asks || c.Type == "Metaspace" && c.PrependScheme == "first"
	}
	if !asks {
		return nil, nil
	}
	var fs []func(string) string
	for _, c := range flattenNormalizers(normalizer) {
		switch c.Type {
		case "Strip", "Nmt", "StripAccents", "BertNormalizer", "NFD", "NFKD":
			f, err := newNormalizer(c)
			if err != nil {
				return nil, err
			}
			fs = append(fs, f)
		}
	}
	if len(fs) == 0 {
		return nil, nil
	}
	return func(s string) bool {
		_, w := utf8.DecodeRuneInString(s)
		s = s[:w]
		for _, f := range fs {
			s = f(s)
		}
		return s != ""
	}, nil
}
