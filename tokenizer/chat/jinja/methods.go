package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

func strArg(args []any, i int) (string, error) {
	if i >= len(args) {
		return "", fmt.Errorf("argument %d is missing", i+1)
	}
	s, ok := args[i].(string)
	if !ok {
		return "", fmt.Errorf("wants a str, not %s", describe(args[i]))
	}
	return s, nil
}

func intArg(args []any, i int, def int64) (int64, error) {
	if i >= len(args) {
		return def, nil
	}
	n, ok := integer(args[i])
	if !ok {
		return 0, fmt.Errorf("wants a whole number, not %s", describe(args[i]))
	}
	return n, nil
}

// strip cuts the characters of the argument, white space without one.
func strip(left, right bool) func(string, []any, map[string]any) (any, error) {
	return func(s string, args []any, _ map[string]any) (any, error) {
		cut := unicode.IsSpace
		if len(args) > 0 && args[0] != nil {
			set, err := strArg(args, 0)
			if err != nil {
				return nil, err
			}
			cut = func(r rune) bool { return strings.ContainsRune(set, r) }
		}
		if left {
			s = strings.TrimLeftFunc(s, cut)
		}
		if right {
			s = strings.TrimRightFunc(s, cut)
		}
		return s, nil
	}
}

func texts(parts []string) *List {
	l := &List{Items: make([]any, len(parts))}
	for i, p := range parts {
		l.Items[i] = p
	}
	return l
}

// split is str.split, from the right str.rsplit.
func split(right bool) func(string, []any, map[string]any) (any, error) {
	return func(s string, args []any, kw map[string]any) (any, error) {
		var sep any
		limit := int64(-1)
		if len(args) > 0 {
			sep = args[0]
		} else if v, ok := kw["sep"]; ok {
			sep = v
		}
		var err error
		if v, ok := kw["maxsplit"]; ok {
			limit, err = intArg([]any{v}, 0, -1)
		} else {
			limit, err = intArg(args, 1, -1)
		}
		if err != nil {
			return nil, err
		}
		if sep == nil {
			return splitSpace(s, limit, right), nil
		}
		by, ok := sep.(string)
		if !ok || by == "" {
			return nil, errors.New("wants a separator that is a str and not empty")
		}
		var parts []string
		if !right {
			n := -1
			if limit >= 0 && limit < 1<<30 {
				n = int(limit) + 1
			}
			parts = strings.SplitN(s, by, n)
		} else {
			for limit != 0 {
				i := strings.LastIndex(s, by)
				if i < 0 {
					break
				}
				parts = append([]string{s[i+len(by):]}, parts...)
				s = s[:i]
				limit--
			}
			parts = append([]string{s}, parts...)
		}
		return texts(parts), nil
	}
}

func splitSpace(s string, limit int64, right bool) *List {
	if limit < 0 {
		return texts(strings.FieldsFunc(s, unicode.IsSpace))
	}
	var parts []string
	if right {
		for s = strings.TrimRightFunc(s, unicode.IsSpace); s != ""; limit-- {
			i := strings.LastIndexFunc(s, unicode.IsSpace)
			if limit == 0 || i < 0 {
				parts = append([]string{s}, parts...)
				break
			}
			_, w := utf8.DecodeRuneInString(s[i:])
			parts = append([]string{s[i+w:]}, parts...)
			s = strings.TrimRightFunc(s[:i], unicode.IsSpace)
		}
		return texts(parts)
	}
	for s = strings.TrimLeftFunc(s, unicode.IsSpace); s != ""; limit-- {
		i := strings.IndexFunc(s, unicode.IsSpace)
		if limit == 0 || i < 0 {
			parts = append(parts, s)
			break
		}
		parts = append(parts, s[:i])
		s = strings.TrimLeftFunc(s[i:], unicode.IsSpace)
	}
	return texts(parts)
}

// affix is str.startswith and endswith: one text or a tuple of them.
func affix(has func(s, part string) bool) func(string, []any, map[string]any) (any, error) {
	return func(s string, args []any, _ map[string]any) (any, error) {
		if len(args) != 1 {
			return nil, errors.New("wants one text")
		}
		if l, ok := args[0].(*List); ok && l.Tuple {
			for _, x := range l.Items {
				if p, ok := x.(string); ok && has(s, p) {
					return true, nil
				}
			}
			return false, nil
		}
		p, err := strArg(args, 0)
		return has(s, p), err
	}
}

// find is str.find, rfind and index, counting characters.
func find(index func(s, part string) int, must bool) func(string, []any, map[string]any) (any, error) {
	return func(s string, args []any, _ map[string]any) (any, error) {
		p, err := strArg(args, 0)
		if err != nil {
			return nil, err
		}
		if len(args) > 1 {
			return nil, errors.New("takes no bounds here")
		}
		i := index(s, p)
		if i < 0 {
			if must {
				return nil, errors.New("substring not found")
			}
			return int64(-1), nil
		}
		return int64(utf8.RuneCountInString(s[:i])), nil
	}
}

func plain(f func(string) any) func(string, []any, map[string]any) (any, error) {
	return func(s string, args []any, kw map[string]any) (any, error) {
		if len(args)+len(kw) > 0 {
			return nil, errors.New("takes no arguments")
		}
		return f(s), nil
	}
}

// every reports whether a text is not empty and all its characters are of a kind.
func every(f func(rune) bool) func(string, []any, map[string]any) (any, error) {
	return plain(func(s string) any {
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !f(r) })
	})
}

func capitalize(s string) string {
	r, w := utf8.DecodeRuneInString(s)
	if w == 0 {
		return s
	}
	return string(unicode.ToTitle(r)) + strings.ToLower(s[w:])
}

// title is str.title: letters after anything but a letter become capitals.
func title(s string) string {
	word := false
	return strings.Map(func(r rune) rune {
		was := word
		word = unicode.IsLetter(r)
		if was {
			return unicode.ToLower(r)
		}
		return unicode.ToTitle(r)
	}, s)
}

// pad is str.ljust, rjust and center.
func pad(where int) func(string, []any, map[string]any) (any, error) {
	return func(s string, args []any, _ map[string]any) (any, error) {
		n, err := intArg(args, 0, 0)
		if err != nil {
			return nil, err
		}
		fill := " "
		if len(args) > 1 {
			if fill, err = strArg(args, 1); err != nil || utf8.RuneCountInString(fill) != 1 {
				return nil, errors.New("wants one character to fill with")
			}
		}
		k := int(min(n, maxRepeat)) - utf8.RuneCountInString(s)
		if k <= 0 {
			return s, nil
		}
		left := 0
		switch where {
		case 1:
			left = k
		case 2:
			left = k/2 + k&int(n)&1
		}
		return strings.Repeat(fill, left) + s + strings.Repeat(fill, k-left), nil
	}
}

func replaceN(s string, args []any, kw map[string]any) (any, error) {
	from, err := strArg(args, 0)
	if err != nil {
		return nil, err
	}
	to, err := strArg(args, 1)
	if err != nil {
		return nil, err
	}
	n, err := intArg(args, 2, -1)
	if v, ok := kw["count"]; ok && err == nil {
		n, err = intArg([]any{v}, 0, -1)
	}
	if err != nil {
		return nil, err
	}
	if (len(s)+1)*(len(to)+1) > maxOutput*4 {
		return nil, errors.New("the text becomes too long")
	}
	return strings.Replace(s, from, to, int(max(min(n, 1<<30), -1))), nil
}

var stringMethods map[string]func(s string, args []any, kw map[string]any) (any, error)

func init() {
	stringMethods = map[string]func(s string, args []any, kw map[string]any) (any, error){
		"upper":      plain(func(s string) any { return strings.ToUpper(s) }),
		"lower":      plain(func(s string) any { return strings.ToLower(s) }),
		"casefold":   plain(func(s string) any { return strings.ToLower(s) }),
		"capitalize": plain(func(s string) any { return capitalize(s) }),
		"title":      plain(func(s string) any { return title(s) }),
		"swapcase": plain(func(s string) any {
			return strings.Map(func(r rune) rune {
				if unicode.IsUpper(r) {
					return unicode.ToLower(r)
				}
				return unicode.ToUpper(r)
			}, s)
		}),
		"strip":      strip(true, true),
		"lstrip":     strip(true, false),
		"rstrip":     strip(false, true),
		"split":      split(false),
		"rsplit":     split(true),
		"format":     formatFields,
		"startswith": affix(strings.HasPrefix),
		"endswith":   affix(strings.HasSuffix),
		"find":       find(strings.Index, false),
		"rfind":      find(strings.LastIndex, false),
		"index":      find(strings.Index, true),
		"rindex":     find(strings.LastIndex, true),
		"replace":    replaceN,
		"ljust":      pad(0),
		"rjust":      pad(1),
		"center":     pad(2),
		"isdigit":    every(unicode.IsDigit),
		"isdecimal":  every(unicode.IsDigit),
		"isnumeric":  every(unicode.IsNumber),
		"isalpha":    every(unicode.IsLetter),
		"isalnum":    every(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
		"isspace":    every(unicode.IsSpace),
		"isupper": plain(func(s string) any {
			return strings.ContainsFunc(s, unicode.IsUpper) && !strings.ContainsFunc(s, unicode.IsLower)
		}),
		"islower": plain(func(s string) any {
			return strings.ContainsFunc(s, unicode.IsLower) && !strings.ContainsFunc(s, unicode.IsUpper)
		}),
		"splitlines": func(s string, args []any, kw map[string]any) (any, error) {
			if len(args)+len(kw) > 0 {
				return nil, errors.New("keepends is not supported")
			}
			s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(s)
			if s == "" {
				return &List{}, nil
			}
			return texts(strings.Split(strings.TrimSuffix(s, "\n"), "\n")), nil
		},
		"join": func(s string, args []any, _ map[string]any) (any, error) {
			if len(args) != 1 {
				return nil, errors.New("wants a list")
			}
			items, err := elements(args[0])
			if err != nil {
				return nil, err
			}
			parts := make([]string, len(items))
			for i := range items {
				if parts[i], err = strArg(items, i); err != nil {
					return nil, err
				}
			}
			return joinTexts(parts, s)
		},
		"count": func(s string, args []any, _ map[string]any) (any, error) {
			p, err := strArg(args, 0)
			return int64(strings.Count(s, p)), err
		},
		"removeprefix": func(s string, args []any, _ map[string]any) (any, error) {
			p, err := strArg(args, 0)
			return strings.TrimPrefix(s, p), err
		},
		"removesuffix": func(s string, args []any, _ map[string]any) (any, error) {
			p, err := strArg(args, 0)
			return strings.TrimSuffix(s, p), err
		},
		"partition": func(s string, args []any, _ map[string]any) (any, error) {
			p, err := strArg(args, 0)
			if err != nil || p == "" {
				return nil, errors.New("wants a separator")
			}
			if a, b, ok := strings.Cut(s, p); ok {
				return &List{Items: []any{a, p, b}, Tuple: true}, nil
			}
			return &List{Items: []any{s, "", ""}, Tuple: true}, nil
		},
		"rpartition": func(s string, args []any, _ map[string]any) (any, error) {
			p, err := strArg(args, 0)
			if err != nil || p == "" {
				return nil, errors.New("wants a separator")
			}
			if i := strings.LastIndex(s, p); i >= 0 {
				return &List{Items: []any{s[:i], p, s[i+len(p):]}, Tuple: true}, nil
			}
			return &List{Items: []any{"", "", s}, Tuple: true}, nil
		},
		"zfill": func(s string, args []any, _ map[string]any) (any, error) {
			n, err := intArg(args, 0, 0)
			k := int(min(n, maxRepeat)) - utf8.RuneCountInString(s)
			if err != nil || k <= 0 {
				return s, err
			}
			sign := ""
			if s != "" && (s[0] == '-' || s[0] == '+') {
				sign, s = s[:1], s[1:]
			}
			return sign + strings.Repeat("0", k) + s, nil
		},
	}
}

func joinTexts(parts []string, sep string) (any, error) {
	n := 0
	for _, p := range parts {
		if n += len(p) + len(sep); n > maxOutput {
			return nil, errors.New("the text becomes too long")
		}
	}
	return strings.Join(parts, sep), nil
}

// changes refuses what would change a value, as the sandbox does.
func changes[T any](T, []any) (any, error) {
	return nil, errors.New("a chat template must not change a list or dict")
}

var listMethods = map[string]func(l *List, args []any) (any, error){
	"index": func(l *List, args []any) (any, error) {
		if len(args) == 1 {
			for i, x := range l.Items {
				if equal(x, args[0]) {
					return int64(i), nil
				}
			}
		}
		return nil, errors.New("the value is not in the list")
	},
	"count": func(l *List, args []any) (any, error) {
		if len(args) != 1 {
			return nil, errors.New("wants a value")
		}
		n := int64(0)
		for _, x := range l.Items {
			if equal(x, args[0]) {
				n++
			}
		}
		return n, nil
	},
	"copy":   func(l *List, _ []any) (any, error) { return &List{Items: l.Items}, nil },
	"append": changes[*List], "extend": changes[*List], "insert": changes[*List], "pop": changes[*List],
	"remove": changes[*List], "reverse": changes[*List], "sort": changes[*List], "clear": changes[*List],
}

var dictMethods = map[string]func(d *Dict, args []any) (any, error){
	"items":  func(d *Dict, _ []any) (any, error) { return &List{Items: d.items()}, nil },
	"keys":   func(d *Dict, _ []any) (any, error) { return &List{Items: d.keys}, nil },
	"copy":   func(d *Dict, _ []any) (any, error) { return d.Clone(), nil },
	"values": func(d *Dict, _ []any) (any, error) { return &List{Items: values(d)}, nil },
	"get": func(d *Dict, args []any) (any, error) {
		if len(args) < 1 || len(args) > 2 {
			return nil, errors.New("get takes a key and a default")
		}
		if v, ok := d.Get(args[0]); ok {
			return v, nil
		}
		if len(args) == 2 {
			return args[1], nil
		}
		return nil, nil
	},
	"update": changes[*Dict], "pop": changes[*Dict], "popitem": changes[*Dict], "setdefault": changes[*Dict], "clear": changes[*Dict],
}

func values(d *Dict) []any {
	out := make([]any, len(d.keys))
	for i, k := range d.keys {
		out[i], _ = d.Get(k)
	}
	return out
}
