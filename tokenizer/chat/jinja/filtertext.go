package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// titleFilter is Jinja's title, which begins words after blanks, hyphens and
// opening brackets only.
func titleFilter(s string) string {
	begin := true
	return strings.Map(func(r rune) rune {
		was := begin
		begin = unicode.IsSpace(r) || strings.ContainsRune("-({[<", r)
		if was {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func escapeHTML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;").Replace(s)
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return !isWord(r) })
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

func joinFilter(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(items))
	for i, x := range items {
		if a := c.arg(1, "attribute", nil); a != nil {
			if x, err = path(x, a); err != nil {
				return nil, err
			}
		}
		parts[i] = str(x)
	}
	return joinTexts(parts, str(c.arg(0, "d", "")))
}

func indent(c *filterCall) (any, error) {
	by := ""
	switch w := c.arg(0, "width", int64(4)).(type) {
	case string:
		by = w
	default:
		n, ok := integer(w)
		if !ok || n > 1000 {
			return nil, errors.New("bad width")
		}
		by = strings.Repeat(" ", int(max(n, 0)))
	}
	first, blank := truth(c.arg(1, "first", false)), truth(c.arg(2, "blank", false))
	lines := strings.Split(str(c.x), "\n")
	if len(lines)*len(by) > maxOutput {
		return nil, errors.New("the text becomes too long")
	}
	for i := range lines {
		if i == 0 && !first || i > 0 && lines[i] == "" && !blank {
			continue
		}
		lines[i] = by + lines[i]
	}
	return strings.Join(lines, "\n"), nil
}

func format(c *filterCall) (any, error) {
	if len(c.kwargs) > 0 {
		return nil, errors.New("takes no names here")
	}
	return sprintf(str(c.x), &List{Items: c.args, Tuple: true})
}

// sprintf is Python's %-formatting with the verbs s, r, d, i, f and x, and with
// widths and precisions.
func sprintf(f string, arg any) (any, error) {
	args := []any{arg}
	if l, ok := arg.(*List); ok && l.Tuple {
		args = l.Items
	}
	var b strings.Builder
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			b.WriteByte(f[i])
			continue
		}
		k := i + 1
		for k < len(f) && strings.IndexByte("-+ 0#.123456789", f[k]) >= 0 {
			k++
		}
		if k == len(f) || k-i > 8 {
			return nil, errors.New("bad format")
		}
		verb, spec := f[k], f[i:k]
		i = k
		if verb == '%' {
			b.WriteByte('%')
			continue
		}
		if len(args) == 0 {
			return nil, errors.New("not enough values for the format")
		}
		v := args[0]
		args = args[1:]
		switch verb {
		case 's':
			fmt.Fprintf(&b, spec+"s", str(v))
		case 'r':
			var r strings.Builder
			repr(&r, v, 0)
			fmt.Fprintf(&b, spec+"s", r.String())
		case 'd', 'i', 'x':
			n, ok := integer(v)
			if x, isFloat := v.(float64); isFloat && verb != 'x' {
				n, ok = int64(x), math.Abs(x) < 1<<62
			}
			if !ok {
				return nil, fmt.Errorf("%%%c wants a number, not %s", verb, describe(v))
			}
			if verb == 'i' {
				verb = 'd'
			}
			fmt.Fprintf(&b, spec+string(verb), n)
		case 'f', 'g', 'e':
			x, ok := number(v)
			if !ok || verb != 'f' {
				return nil, fmt.Errorf("%%%c of %s is not supported", verb, describe(v))
			}
			fmt.Fprintf(&b, spec+"f", x)
		default:
			return nil, fmt.Errorf("the format %%%c is not supported", verb)
		}
		if b.Len() > maxOutput {
			return nil, errors.New("the text becomes too long")
		}
	}
	if len(args) > 0 {
		return nil, errors.New("too many values for the format")
	}
	return b.String(), nil
}

func truncate(c *filterCall) (any, error) {
	n, err := c.int(0, "length", 255)
	if err != nil {
		return nil, err
	}
	leeway, err := c.int(3, "leeway", 5)
	if err != nil {
		return nil, err
	}
	s, tail := str(c.x), str(c.arg(2, "end", "..."))
	if int64(utf8.RuneCountInString(s)) <= n+leeway {
		return s, nil
	}
	keep := n - int64(utf8.RuneCountInString(tail))
	if keep < 0 {
		return nil, errors.New("the end is longer than the length")
	}
	cut := string([]rune(s)[:keep])
	if !truth(c.arg(1, "killwords", false)) {
		if i := strings.LastIndexByte(cut, ' '); i >= 0 {
			cut = cut[:i]
		}
	}
	return cut + tail, nil
}
