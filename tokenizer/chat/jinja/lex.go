package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	tokEOF kind = iota
	tokData
	tokBlockBegin
	tokBlockEnd
	tokVarBegin
	tokVarEnd
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
)

type token struct {
	kind kind
	text string // the decoded text of a string
	line int
}

// SyntaxError is a template that cannot be parsed.
type SyntaxError struct {
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// lexer cuts a template into tokens. White space goes as in Jinja with
// trim_blocks and lstrip_blocks: the line break after a block is dropped, and so
// are the blanks before a block or comment that begins a line.
type lexer struct {
	src       string
	pos       int
	line      int
	out       []token
	lineStart bool // the text at pos begins a line, or follows a dropped line break
}

// operators, the longer before their prefixes.
var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

func lex(src string) ([]token, error) {
	src = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(src)
	src = strings.TrimSuffix(src, "\n")
	l := &lexer{src: src, line: 1, lineStart: true}
	for l.pos < len(l.src) {
		if err := l.root(); err != nil {
			return nil, err
		}
	}
	l.add(tokEOF, "")
	return l.out, nil
}

func (l *lexer) add(k kind, text string) { l.out = append(l.out, token{k, text, l.line}) }

func (l *lexer) fail(format string, args ...any) error {
	return &SyntaxError{l.line, fmt.Sprintf(format, args...)}
}

// take moves past n bytes.
func (l *lexer) take(n int) string {
	s := l.src[l.pos : l.pos+n]
	l.pos += n
	l.line += strings.Count(s, "\n")
	if n > 0 {
		l.lineStart = s[n-1] == '\n'
	}
	return s
}

// root reads text up to a tag, and the tag.
func (l *lexer) root() error {
	rest := l.src[l.pos:]
	at, what := len(rest), byte(0)
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == '{' && (rest[i+1] == '%' || rest[i+1] == '{' || rest[i+1] == '#') {
			at, what = i, rest[i+1]
			break
		}
	}
	text := rest[:at]
	if what == 0 {
		l.data(text)
		l.take(at)
		return nil
	}
	sign := byte(0)
	if at+2 < len(rest) && (rest[at+2] == '-' || rest[at+2] == '+') {
		sign = rest[at+2]
	}
	switch {
	case sign == '-':
		text = strings.TrimRightFunc(text, unicode.IsSpace)
	case sign != '+' && what != '{':
		if i := strings.LastIndexByte(text, '\n') + 1; i > 0 || l.lineStart {
			if strings.Trim(text[i:], " \t") == "" {
				text = text[:i]
			}
		}
	}
	l.data(text)
	l.take(at)
	begin := 2
	if sign != 0 && (what != '{' || sign == '-') {
		begin = 3
	}
	switch what {
	case '#':
		end := strings.Index(l.src[l.pos+2:], "#}")
		if end < 0 {
			return l.fail("missing end of comment")
		}
		end += l.pos + 2
		minus := end > l.pos+2 && l.src[end-1] == '-'
		plus := end > l.pos+2 && l.src[end-1] == '+'
		l.take(end + 2 - l.pos)
		l.after(minus, !plus)
		return nil
	case '%':
		if done, err := l.raw(); done || err != nil {
			return err
		}
		l.add(tokBlockBegin, "")
		l.take(begin)
		return l.tag("%}", tokBlockEnd)
	}
	l.add(tokVarBegin, "")
	l.take(begin)
	return l.tag("}}", tokVarEnd)
}

func (l *lexer) data(s string) {
	if s != "" {
		l.add(tokData, s)
	}
}

// after drops what a tag's end takes with it: all white space, or one line break.
func (l *lexer) after(all, newline bool) {
	rest := l.src[l.pos:]
	switch {
	case all:
		l.take(len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsSpace)))
	case newline && strings.HasPrefix(rest, "\n"):
		l.take(1)
	}
}

// rawTag reads {% name %} at s and returns its length, 0 if something else stands
// there.
func rawTag(s, name string) (n int, before, after byte) {
	if !strings.HasPrefix(s, "{%") {
		return 0, 0, 0
	}
	i := 2
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		before = s[i]
		i++
	}
	blank := func() {
		for i < len(s) && unicode.IsSpace(rune(s[i])) {
			i++
		}
	}
	blank()
	if !strings.HasPrefix(s[i:], name) {
		return 0, 0, 0
	}
	i += len(name)
	blank()
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		after = s[i]
		i++
	}
	if !strings.HasPrefix(s[i:], "%}") {
		return 0, 0, 0
	}
	return i + 2, before, after
}

// raw reads a {% raw %} block as text.
func (l *lexer) raw() (bool, error) {
	n, _, sign := rawTag(l.src[l.pos:], "raw")
	if n == 0 || sign == '+' {
		return false, nil
	}
	l.take(n)
	l.after(sign == '-', false)
	start, atLine := l.pos, l.lineStart
	for i := start; i < len(l.src); i++ {
		n, before, after := rawTag(l.src[i:], "endraw")
		if n == 0 {
			continue
		}
		text := l.src[start:i]
		switch {
		case before == '-':
			text = strings.TrimRightFunc(text, unicode.IsSpace)
		case before != '+':
			if k := strings.LastIndexByte(text, '\n') + 1; k > 0 || atLine {
				if strings.Trim(text[k:], " \t") == "" {
					text = text[:k]
				}
			}
		}
		l.data(text)
		l.take(i + n - l.pos)
		l.after(after == '-', after != '+')
		return true, nil
	}
	return false, l.fail("missing endraw")
}

// tag reads the inside of {% %} or {{ }} up to its end.
func (l *lexer) tag(end string, k kind) error {
	var open []byte
	for {
		rest := l.src[l.pos:]
		blank := strings.TrimLeftFunc(rest, unicode.IsSpace)
		l.take(len(rest) - len(blank))
		if rest = blank; rest == "" {
			return l.fail("missing %s", end)
		}
		if len(open) == 0 {
			switch {
			case strings.HasPrefix(rest, "-"+end):
				l.add(k, "")
				l.take(3)
				l.after(true, false)
				return nil
			case k == tokBlockEnd && strings.HasPrefix(rest, "+"+end):
				l.add(k, "")
				l.take(3)
				return nil
			case strings.HasPrefix(rest, end):
				l.add(k, "")
				l.take(2)
				l.after(false, k == tokBlockEnd)
				return nil
			}
		}
		c, _ := utf8.DecodeRuneInString(rest)
		switch {
		case c == '\'' || c == '"':
			if err := l.str(byte(c)); err != nil {
				return err
			}
		case c >= '0' && c <= '9':
			l.number()
		case c == '_' || unicode.IsLetter(c):
			n := strings.IndexFunc(rest, func(r rune) bool {
				return r != '_' && !unicode.In(r, unicode.L, unicode.N, unicode.Mn, unicode.Mc)
			})
			if n < 0 {
				n = len(rest)
			}
			l.add(tokName, rest[:n])
			l.take(n)
		default:
			op := ""
			for _, o := range operators {
				if strings.HasPrefix(rest, o) {
					op = o
					break
				}
			}
			switch op {
			case "":
				return l.fail("unexpected character %q", c)
			case "(", "[", "{":
				open = append(open, op[0])
			case ")", "]", "}":
				pair := map[string]byte{")": '(', "]": '[', "}": '{'}[op]
				if len(open) == 0 || open[len(open)-1] != pair {
					return l.fail("unexpected %q", op)
				}
				open = open[:len(open)-1]
			}
			l.add(tokOp, op)
			l.take(len(op))
		}
	}
}

func (l *lexer) number() {
	rest := l.src[l.pos:]
	digits := func(i int) int {
		for i < len(rest) && (rest[i] >= '0' && rest[i] <= '9' || rest[i] == '_' && i+1 < len(rest) && rest[i+1] >= '0' && rest[i+1] <= '9') {
			i++
		}
		return i
	}
	n, k := digits(0), tokInt
	if n+1 < len(rest) && rest[n] == '.' && rest[n+1] >= '0' && rest[n+1] <= '9' {
		n, k = digits(n+1), tokFloat
	}
	if n < len(rest) && (rest[n] == 'e' || rest[n] == 'E') {
		e := n + 1
		if e < len(rest) && (rest[e] == '+' || rest[e] == '-') {
			e++
		}
		if m := digits(e); m > e {
			n, k = m, tokFloat
		}
	}
	l.add(k, strings.ReplaceAll(rest[:n], "_", ""))
	l.take(n)
}

// str reads a string literal with Python's escapes.
func (l *lexer) str(quote byte) error {
	rest := l.src[l.pos:]
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == quote:
			l.add(tokString, b.String())
			l.take(i + 1)
			return nil
		case c != '\\' || i+1 == len(rest):
			b.WriteByte(c)
		default:
			n, s, ok := escape(rest[i+1:])
			if !ok {
				return l.fail("bad escape in a string: %q", rest[i:min(i+8, len(rest))])
			}
			b.WriteString(s)
			i += n
		}
	}
	return l.fail("missing end of a string")
}

// escape decodes what follows a backslash: n bytes of s.
func escape(s string) (n int, out string, ok bool) {
	if i := strings.IndexByte(`abfnrtv\'"`, s[0]); i >= 0 {
		return 1, "\a\b\f\n\r\t\v\\'\""[i : i+1], true
	}
	hex := func(digits int) (int, string, bool) {
		if len(s) < 1+digits {
			return 0, "", false
		}
		v, err := strconv.ParseUint(s[1:1+digits], 16, 32)
		if err != nil || v > unicode.MaxRune {
			return 0, "", false
		}
		return 1 + digits, string(rune(v)), true
	}
	switch c := s[0]; {
	case c == '\n':
		return 1, "", true
	case c == 'x':
		return hex(2)
	case c == 'u':
		return hex(4)
	case c == 'U':
		return hex(8)
	case c == 'N':
		return 0, "", false
	case c >= '0' && c <= '7':
		n = 1
		for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		v, _ := strconv.ParseUint(s[:n], 8, 32) // at most 0777
		return n, string(rune(v)), true
	}
	return 0, `\`, true // an unknown escape stays as it is
}
