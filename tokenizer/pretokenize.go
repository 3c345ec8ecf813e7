package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// step is one pre-tokenizer: it cuts a piece of text into smaller ones and may
// change them. start tells that the piece begins where the text begins.
type step func(s string, start bool, yield func(s string, start bool))

var preTokenizers = []string{"ByteLevel (as the last)", "Digits", "Split", "Metaspace", "Punctuation", "WhitespaceSplit", "Whitespace", "BertPreTokenizer", "Sequence"}

// Patterns with a splitter written by hand.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

var splitters = map[string]func(string) int{
	gpt2Pattern:   nextGPT2,
	llama3Pattern: nextLlama3,
	qwen2Pattern:  nextQwen2,
}

// flatten lists the members of nested sequences.
func flatten(c *component) []*component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []*component{c}
	}
	var out []*component
	for i := range c.Pretokenizers {
		out = append(out, flatten(&c.Pretokenizers[i])...)
	}
	return out
}

// newPreTokenizer builds the steps of a pre-tokenizer and tells whether the
// last one hands bytes to the model.
func newPreTokenizer(c *component) (steps []step, byteLevel bool, err error) {
	for _, c := range flatten(c) {
		if byteLevel {
			return nil, false, &UnsupportedError{"pre_tokenizer", c.Type + " after ByteLevel", preTokenizers}
		}
		switch c.Type {
		case "ByteLevel":
			byteLevel = true
			if orTrue(c.AddPrefixSpace) {
				steps = append(steps, prefixSpace)
			}
			if orTrue(c.UseRegex) {
				steps = append(steps, pattern(nextGPT2))
			}
		case "Digits":
			steps = append(steps, digits(c.IndividualDigits))
		case "Split":
			s, err := newSplit(c)
			if err != nil {
				return nil, false, err
			}
			steps = append(steps, s)
		case "Metaspace":
			s, err := newMetaspace(c)
			if err != nil {
				return nil, false, err
			}
			steps = append(steps, s)
		case "Punctuation":
			behavior := c.Behavior
			if behavior == "" {
				behavior = "Isolated"
			}
			s, err := cutter(behavior, false, runes(isPunctuation))
			if err != nil {
				return nil, false, err
			}
			steps = append(steps, s)
		case "WhitespaceSplit":
			steps = append(steps, whiteSplit)
		case "Whitespace":
			s, _ := cutter("Removed", true, words)
			steps = append(steps, s)
		case "BertPreTokenizer":
			steps = append(steps, bertPieces)
		default:
			return nil, false, &UnsupportedError{"pre_tokenizer", c.Type, preTokenizers}
		}
	}
	return steps, byteLevel, nil
}

func prefixSpace(s string, start bool, yield func(string, bool)) {
	if s[0] != ' ' {
		s = " " + s
	}
	yield(s, start)
}

// pattern cuts with a hand-written splitter.
func pattern(next func(string) int) step {
	return func(s string, start bool, yield func(string, bool)) {
		for s != "" {
			n := next(s)
			yield(s[:n], start)
			s, start = s[n:], false
		}
	}
}

// whiteSplit cuts at white space and drops it.
func whiteSplit(s string, start bool, yield func(string, bool)) {
	from := 0
	for i, r := range s {
		if !unicode.IsSpace(r) {
			continue
		}
		if i > from {
			yield(s[from:i], start && from == 0)
		}
		from = i + utf8.RuneLen(r)
	}
	if from < len(s) {
		yield(s[from:], start && from == 0)
	}
}

// digits cuts off numbers, each by itself or whole runs of them.
func digits(individual bool) step {
	return func(s string, start bool, yield func(string, bool)) {
		from := 0
		for i := 0; i < len(s); {
			c, w := classAt(s[i:])
			if c != number {
				i += w
				continue
			}
			if i > from {
				yield(s[from:i], start && from == 0)
			}
			end := i + w
			if !individual {
				end = run(s, end, number)
			}
			yield(s[i:end], start && i == 0)
			i, from = end, end
		}
		if from < len(s) {
			yield(s[from:], start && from == 0)
		}
	}
}

func newMetaspace(c *component) (step, error) {
	mark := c.Replacement
	if mark == "" {
		mark = "\u2581"
	}
	scheme := c.PrependScheme
	if scheme == "" {
		scheme = "always"
		if c.AddPrefixSpace != nil && !*c.AddPrefixSpace {
			scheme = "never"
		}
	}
	if scheme != "always" && scheme != "first" && scheme != "never" {
		return nil, &UnsupportedError{"pre_tokenizer Metaspace prepend_scheme", scheme, []string{"always", "first", "never"}}
	}
	cut := orTrue(c.Split)
	return func(s string, start bool, yield func(string, bool)) {
		s = strings.ReplaceAll(s, " ", mark)
		if !strings.HasPrefix(s, mark) && (scheme == "always" || scheme == "first" && start) {
			s = mark + s
		}
		for cut {
			i := strings.Index(s[1:], mark)
			if i < 0 {
				break
			}
			yield(s[:i+1], start)
			s, start = s[i+1:], false
		}
		yield(s, start)
	}, nil
}

// runes makes every rune of a kind a match.
func runes(is func(rune) bool) func(string) [][2]int {
	return func(s string) (out [][2]int) {
		for i := 0; i < len(s); {
			r, w := utf8.DecodeRuneInString(s[i:])
			if is(r) {
				out = append(out, [2]int{i, i + w})
			}
			i += w
		}
		return out
	}
}

// words makes every run of word characters and every run of characters that are
// neither those nor white space a match: \w+|[^\w\s]+.
func words(s string) (out [][2]int) {
	from, kind := 0, space
	for i, r := range s {
		k := other
		switch {
		case unicode.IsSpace(r):
			k = space
		case isWord(r):
			k = letter
		}
		if k != kind {
			if kind != space {
				out = append(out, [2]int{from, i})
			}
			from, kind = i, k
		}
	}
	if kind != space {
		out = append(out, [2]int{from, len(s)})
	}
	return out
}

// find makes the matches of a regular expression.
func find(expr string) (func(string) [][2]int, error) {
	re, err := regexp2.Compile(expr, regexp2.None)
	if err != nil {
		return nil, &UnsupportedError{"pre_tokenizer Split pattern", err.Error(), []string{"String", "Regex of .NET syntax"}}
	}
	return func(s string) (out [][2]int) {
		rs := []rune(s)
		at := make([]int, 0, len(rs)+1) // byte offset of each rune
		for i := range s {
			at = append(at, i)
		}
		at = append(at, len(s))
		// The only error is a time limit, and there is none.
		for m, err := re.FindRunesMatch(rs); m != nil && err == nil; m, err = re.FindNextMatch(m) {
			if m.Length > 0 {
				out = append(out, [2]int{at[m.Index], at[m.Index+m.Length]})
			}
		}
		return out
	}, nil
}

func newSplit(c *component) (step, error) {
	switch {
	case c.Pattern.Regex != nil:
		// A pattern that covers every text cuts the same way isolated and with
		// everything but the matches removed.
		if next := splitters[*c.Pattern.Regex]; next != nil && (c.Behavior == "Isolated" || c.Behavior == "Removed" && c.Invert) {
			return pattern(next), nil
		}
		matches, err := find(*c.Pattern.Regex)
		if err != nil {
			return nil, err
		}
		return cutter(c.Behavior, c.Invert, matches)
	case c.Pattern.String != nil && *c.Pattern.String != "":
		p := *c.Pattern.String
		return cutter(c.Behavior, c.Invert, func(s string) (out [][2]int) {
			for i := 0; ; {
				k := strings.Index(s[i:], p)
				if k < 0 {
					return out
				}
				out = append(out, [2]int{i + k, i + k + len(p)})
				i += k + len(p)
			}
		})
	}
	return nil, &UnsupportedError{"pre_tokenizer Split pattern", "of another kind", []string{"String", "Regex"}}
}

// cutter cuts at matches, with the behaviors of the tokenizers library.
func cutter(behavior string, invert bool, matches func(string) [][2]int) (step, error) {
	switch behavior {
	case "Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext":
	default:
		return nil, &UnsupportedError{"pre_tokenizer Split behavior", behavior,
			[]string{"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"}}
	}
	type part struct {
		from, to int
		match    bool
	}
	return func(s string, start bool, yield func(string, bool)) {
		var parts []part
		done := 0
		for _, m := range matches(s) {
			if m[0] > done {
				parts = append(parts, part{done, m[0], invert})
			}
			parts = append(parts, part{m[0], m[1], !invert})
			done = m[1]
		}
		if done < len(s) {
			parts = append(parts, part{done, len(s), invert})
		}
		out := parts[:0]
		switch behavior {
		case "Isolated":
			out = parts
		case "Removed":
			for _, p := range parts {
				if !p.match {
					out = append(out, p)
				}
			}
		case "Contiguous":
			for _, p := range parts {
				if n := len(out); n > 0 && out[n-1].match == p.match {
					out[n-1].to = p.to
				} else {
					out = append(out, p)
				}
			}
		case "MergedWithPrevious":
			was := false
			for _, p := range parts {
				if n := len(out); p.match && !was && n > 0 {
					out[n-1].to = p.to
				} else {
					out = append(out, p)
				}
				was = p.match
			}
		case "MergedWithNext":
			was := false
			k := len(parts)
			for i := len(parts) - 1; i >= 0; i-- {
				p := parts[i]
				if p.match && !was && k < len(parts) {
					parts[k].from = p.from
				} else {
					k--
					parts[k] = p
				}
				was = p.match
			}
			out = parts[k:]
		}
		for _, p := range out {
			yield(s[p.from:p.to], start && p.from == 0)
		}
	}, nil
}
