package tokenizer

import "unicode/utf8"

// The splitters below are the patterns of common tokenizers, written out by
// hand because they need look-ahead. Each returns the length of the first match
// at the start of a non-empty text; the patterns match every text completely, so
// repeated calls split it without gaps.

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the start
// of s, which begins with an apostrophe. With fold it ignores case as Unicode
// does: U+017F is an s.
func contraction(s string, fold bool) int {
	if len(s) < 2 {
		return 0
	}
	c := s[1]
	var d byte
	if len(s) > 2 {
		d = s[2]
	}
	if fold {
		if c == 0xC5 && d == 0xBF {
			return 3
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if d >= 'A' && d <= 'Z' {
			d += 'a' - 'A'
		}
	}
	switch {
	case c == 's' || c == 't' || c == 'm' || c == 'd':
		return 2
	case c == 'r' && d == 'e', c == 'v' && d == 'e', c == 'l' && d == 'l':
		return 3
	}
	return 0
}

// spaces returns the length of \s+(?!\S)|\s+ at the start of s: a run of white
// space up to the end of the text, else all of it but its last character, else
// that one character.
func spaces(s string) int {
	end := run(s, 0, space)
	if end == len(s) {
		return end
	}
	_, w := utf8.DecodeLastRuneInString(s[:end])
	if end > w {
		return end - w
	}
	return end
}

// nextGPT2 is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// (GPT-2, RoBERTa; with digits cut off first SmolLM and StarCoder).
func nextGPT2(s string) int {
	i := 0
	switch s[0] {
	case '\'':
		if n := contraction(s, false); n > 0 {
			return n
		}
	case ' ':
		if len(s) == 1 {
			return 1
		}
		i = 1
	}
	c, w := classAt(s[i:])
	if c == space {
		return spaces(s)
	}
	return run(s, i+w, c)
}

// nextCL100K is
// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// with digits 3 for Llama 3 and 1 for Qwen 2.
func nextCL100K(s string, digits int) int {
	if s[0] == '\'' {
		if n := contraction(s, true); n > 0 {
			return n
		}
	}
	c, w := classAt(s)
	switch c {
	case letter:
		return run(s, w, letter)
	case number:
		for n := 1; n < digits && w < len(s); n++ {
			c, v := classAt(s[w:])
			if c != number {
				break
			}
			w += v
		}
		return w
	}
	if c == other || s[0] != '\r' && s[0] != '\n' {
		if w < len(s) {
			if c, v := classAt(s[w:]); c == letter {
				return run(s, w+v, letter)
			}
		}
	}
	i := 0
	if s[0] == ' ' && len(s) > 1 {
		i = 1
		c, w = classAt(s[1:])
	}
	if c == other {
		end := run(s, i+w, other)
		for end < len(s) && (s[end] == '\r' || s[end] == '\n') {
			end++
		}
		return end
	}
	// White space: up to its last line break if it has one.
	end := run(s, 0, space)
	for k := end - 1; k >= 0; k-- {
		if s[k] == '\r' || s[k] == '\n' {
			return k + 1
		}
	}
	return spaces(s)
}

func nextLlama3(s string) int { return nextCL100K(s, 3) }
func nextQwen2(s string) int  { return nextCL100K(s, 1) }
