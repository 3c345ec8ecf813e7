package tokenizer

import "unicode/utf8"

// Byte-level vocabularies write each byte as a printable character (GPT-2's
// table): printable ASCII and Latin-1 stand for themselves, the other 68 bytes
// for U+0100 onwards in order.
var (
	byteToRune [256]rune
	runeToByte = map[rune]byte{}
)

func init() {
	next := rune(256)
	for b := 0; b < 256; b++ {
		r := rune(b)
		if b < '!' || b > '~' && b < 0xA1 || b == 0xAD {
			r = next
			next++
		}
		byteToRune[b] = r
		runeToByte[r] = byte(b)
	}
}

// fromByteLevel turns a token of a byte-level vocabulary into its bytes; a text
// with any character outside the table stays as it is.
func fromByteLevel(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		b, ok := runeToByte[r]
		if !ok {
			return s
		}
		out = append(out, b)
	}
	return string(out)
}

// subpart returns how many bytes at the start of b form one character, or, when
// they do not, how many are replaced by one U+FFFD: the longest start of a
// well-formed sequence, at least one byte (Unicode 15, section 3.9, and what
// Rust's from_utf8_lossy does). partial is set when b ends inside a sequence
// that could still become valid.
func subpart(b []byte) (n int, valid, partial bool) {
	c := b[0]
	if c < utf8.RuneSelf {
		return 1, true, false
	}
	lo, hi, need := byte(0x80), byte(0xBF), 0
	switch {
	case c >= 0xC2 && c <= 0xDF:
		need = 1
	case c == 0xE0:
		need, lo = 2, 0xA0
	case c == 0xED:
		need, hi = 2, 0x9F
	case c >= 0xE1 && c <= 0xEF:
		need = 2
	case c == 0xF0:
		need, lo = 3, 0x90
	case c == 0xF4:
		need, hi = 3, 0x8F
	case c >= 0xF1 && c <= 0xF3:
		need = 3
	default:
		return 1, false, false
	}
	for n = 1; n <= need; n++ {
		if n == len(b) {
			return n, false, true
		}
		if b[n] < lo || b[n] > hi {
			return n, false, false
		}
		lo, hi = 0x80, 0xBF
	}
	return n, true, false
}

// lossy appends b to dst as valid UTF-8 and returns what is left over: with
// final false an unfinished character at the end.
func lossy(dst, b []byte, final bool) (out, rest []byte) {
	for len(b) > 0 {
		n, valid, partial := subpart(b)
		if partial && !final {
			return dst, b
		}
		if valid {
			dst = append(dst, b[:n]...)
		} else {
			dst = append(dst, "\uFFFD"...)
		}
		b = b[n:]
	}
	return dst, nil
}
