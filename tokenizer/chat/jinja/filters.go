package jinja

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// filterCall is one use of a filter: x|name(args).
type filterCall struct {
	in     *interp
	x      any
	args   []any
	kwargs map[string]any
}

// arg returns an argument by its place or name.
func (c *filterCall) arg(i int, name string, def any) any {
	if i < len(c.args) {
		return c.args[i]
	}
	if v, ok := c.kwargs[name]; ok {
		return v
	}
	return def
}

func (c *filterCall) int(i int, name string, def int64) (int64, error) {
	v := c.arg(i, name, def)
	n, ok := integer(v)
	if !ok {
		return 0, fmt.Errorf("%s must be a whole number, not %s", name, describe(v))
	}
	return n, nil
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

type filterFunc func(c *filterCall) (any, error)

func text(f func(string) string) filterFunc {
	return func(c *filterCall) (any, error) { return f(str(c.x)), nil }
}

// filters are what may follow "|".
var filters map[string]filterFunc

func init() {
	length := func(c *filterCall) (any, error) { n, err := length(c.x); return int64(n), err }
	def := func(c *filterCall) (any, error) {
		_, missing := c.x.(Undefined)
		if missing || truth(c.arg(1, "boolean", false)) && !truth(c.x) {
			return c.arg(0, "default_value", ""), nil
		}
		return c.x, nil
	}
	filters = map[string]filterFunc{
		"tojson": toJSON,
		"length": length, "count": length,
		"default": def, "d": def,
		"upper":      text(strings.ToUpper),
		"lower":      text(strings.ToLower),
		"capitalize": text(capitalize),
		"title":      text(titleFilter),
		"string":     text(func(s string) string { return s }),
		"safe":       text(func(s string) string { return s }),
		"escape":     text(escapeHTML), "e": text(escapeHTML), "forceescape": text(escapeHTML),
		"trim": func(c *filterCall) (any, error) {
			return strip(true, true)(str(c.x), []any{c.arg(0, "chars", nil)}, nil)
		},
		"replace": func(c *filterCall) (any, error) {
			n, err := c.int(2, "count", -1)
			if c.arg(2, "count", nil) == nil {
				n, err = -1, nil
			}
			if err != nil {
				return nil, err
			}
			return replaceN(str(c.x), []any{str(c.arg(0, "old", Undefined{})), str(c.arg(1, "new", Undefined{})), n}, nil)
		},
		"join":       joinFilter,
		"list":       listFilter,
		"first":      func(c *filterCall) (any, error) { return end(c, 0) },
		"last":       func(c *filterCall) (any, error) { return end(c, -1) },
		"reverse":    reverse,
		"sort":       sortFilter,
		"unique":     unique,
		"min":        func(c *filterCall) (any, error) { return extreme(c, -1) },
		"max":        func(c *filterCall) (any, error) { return extreme(c, 1) },
		"sum":        sum,
		"map":        mapFilter,
		"select":     func(c *filterCall) (any, error) { return choose(c, false, true) },
		"reject":     func(c *filterCall) (any, error) { return choose(c, false, false) },
		"selectattr": func(c *filterCall) (any, error) { return choose(c, true, true) },
		"rejectattr": func(c *filterCall) (any, error) { return choose(c, true, false) },
		"groupby":    groupBy,
		"batch":      batch,
		"items": func(c *filterCall) (any, error) {
			switch x := c.x.(type) {
			case *Dict:
				return &List{Items: x.items()}, nil
			case Undefined:
				return &List{}, nil
			}
			return nil, fmt.Errorf("wants a dict, not %s", describe(c.x))
		},
		"dictsort": dictSort,
		"attr": func(c *filterCall) (any, error) {
			return attribute(c.x, str(c.arg(0, "name", "")))
		},
		"abs": func(c *filterCall) (any, error) {
			if n, ok := integer(c.x); ok && n != math.MinInt64 {
				return max(n, -n), nil
			}
			if f, ok := c.x.(float64); ok {
				return math.Abs(f), nil
			}
			return nil, fmt.Errorf("wants a number, not %s", describe(c.x))
		},
		"int":       toInt,
		"float":     toFloat,
		"round":     round,
		"indent":    indent,
		"format":    format,
		"center":    func(c *filterCall) (any, error) { return pad(2)(str(c.x), []any{c.arg(0, "width", int64(80))}, nil) },
		"wordcount": func(c *filterCall) (any, error) { return int64(len(words(str(c.x)))), nil },
		"truncate":  truncate,
	}
}

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

// path follows "a.b.0" into a value, as the attribute arguments of filters do.
func path(v, attr any) (any, error) {
	if n, ok := integer(attr); ok {
		return item(v, n)
	}
	for _, p := range strings.Split(str(attr), ".") {
		var key any = p
		if n, err := strconv.ParseInt(p, 10, 64); err == nil {
			key = n
		}
		var err error
		if v, err = item(v, key); err != nil {
			return nil, err
		}
	}
	return v, nil
}

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

func listFilter(c *filterCall) (any, error) {
	items, err := elements(c.x)
	return &List{Items: items}, err
}

func end(c *filterCall, i int) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return Undefined{"the first or last of nothing"}, nil
	}
	if i < 0 {
		return items[len(items)-1], nil
	}
	return items[0], nil
}

func reverse(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	if _, ok := c.x.(string); ok {
		var b strings.Builder
		for _, x := range items {
			b.WriteString(x.(string))
		}
		return b.String(), nil
	}
	return &List{Items: items}, nil
}

// sortKey is what items are ordered by: an attribute, and texts without regard to
// case unless told otherwise.
func sortKey(v, attr any, cased bool) (any, error) {
	if attr != nil {
		parts := strings.Split(str(attr), ",")
		if len(parts) > 1 {
			key := &List{Tuple: true}
			for _, p := range parts {
				k, err := sortKey(v, strings.TrimSpace(p), cased)
				if err != nil {
					return nil, err
				}
				key.Items = append(key.Items, k)
			}
			return key, nil
		}
		var err error
		if v, err = path(v, attr); err != nil {
			return nil, err
		}
	}
	if s, ok := v.(string); ok && !cased {
		return strings.ToLower(s), nil
	}
	return v, nil
}

// sorted orders items by keys, stably.
func sorted(items, keys []any, down bool) ([]any, error) {
	at := make([]int, len(items))
	for i := range at {
		at[i] = i
	}
	var err error
	sort.SliceStable(at, func(i, j int) bool {
		a, b := at[i], at[j]
		if down {
			a, b = b, a
		}
		n, e := compare(keys[a], keys[b])
		if e != nil && err == nil {
			err = e
		}
		return n < 0
	})
	out := make([]any, len(items))
	for i, k := range at {
		out[i] = items[k]
	}
	return out, err
}

func sortFilter(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	keys := make([]any, len(items))
	for i, x := range items {
		if keys[i], err = sortKey(x, c.arg(2, "attribute", nil), truth(c.arg(1, "case_sensitive", false))); err != nil {
			return nil, err
		}
	}
	out, err := sorted(items, keys, truth(c.arg(0, "reverse", false)))
	return &List{Items: out}, err
}

func dictSort(c *filterCall) (any, error) {
	d, ok := c.x.(*Dict)
	if !ok {
		return nil, fmt.Errorf("wants a dict, not %s", describe(c.x))
	}
	at := int64(0)
	switch by := str(c.arg(1, "by", "key")); by {
	case "key":
	case "value":
		at = 1
	default:
		return nil, fmt.Errorf("by must be key or value, not %s", by)
	}
	items := d.items()
	keys := make([]any, len(items))
	for i, x := range items {
		keys[i], _ = sortKey(x, at, truth(c.arg(0, "case_sensitive", false))) // pairs have both
	}
	out, err := sorted(items, keys, truth(c.arg(2, "reverse", false)))
	return &List{Items: out}, err
}

func unique(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	out, seen := &List{}, NewDict()
	for _, x := range items {
		k, err := sortKey(x, c.arg(1, "attribute", nil), truth(c.arg(0, "case_sensitive", false)))
		if err != nil {
			return nil, err
		}
		if _, ok := seen.Get(k); ok {
			continue
		}
		if err := seen.Set(k, true); err != nil {
			return nil, err
		}
		out.Items = append(out.Items, x)
	}
	return out, nil
}

func extreme(c *filterCall, sign int) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	var best, bestKey any
	for i, x := range items {
		k, err := sortKey(x, c.arg(1, "attribute", nil), truth(c.arg(0, "case_sensitive", false)))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			n, err := compare(k, bestKey)
			if err != nil {
				return nil, err
			}
			if n*sign <= 0 {
				continue
			}
		}
		best, bestKey = x, k
	}
	if len(items) == 0 {
		return Undefined{"the extreme of nothing"}, nil
	}
	return best, nil
}

func sum(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	total := c.arg(1, "start", int64(0))
	for _, x := range items {
		if a := c.arg(0, "attribute", nil); a != nil {
			if x, err = path(x, a); err != nil {
				return nil, err
			}
		}
		if total, err = c.in.binary("+", total, x); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// mapFilter takes an attribute of each item or applies a filter to each.
func mapFilter(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	out := &List{Items: make([]any, len(items))}
	attr, byAttr := c.kwargs["attribute"]
	if len(c.args) == 0 && !byAttr {
		return nil, errors.New("wants a filter or an attribute")
	}
	for i, x := range items {
		if err := c.in.step(); err != nil {
			return nil, err
		}
		if len(c.args) == 0 {
			v, err := path(x, attr)
			if err != nil {
				return nil, err
			}
			if _, missing := v.(Undefined); missing {
				if d, ok := c.kwargs["default"]; ok {
					v = d
				}
			}
			out.Items[i] = v
			continue
		}
		f := filters[str(c.args[0])]
		if f == nil {
			return nil, fmt.Errorf("no filter named %q", str(c.args[0]))
		}
		if out.Items[i], err = f(&filterCall{c.in, x, c.args[1:], c.kwargs}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// choose is select and reject, with attr selectattr and rejectattr.
func choose(c *filterCall, attr, want bool) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	args := c.args
	var by any
	if attr {
		if len(args) == 0 {
			return nil, errors.New("wants an attribute")
		}
		by, args = args[0], args[1:]
	}
	test := testFunc(func(x any, _ []any) (bool, error) { return truth(x), nil })
	if len(args) > 0 {
		if test = tests[str(args[0])]; test == nil {
			return nil, fmt.Errorf("no test named %q", str(args[0]))
		}
		args = args[1:]
	}
	out := &List{}
	for _, x := range items {
		if err := c.in.step(); err != nil {
			return nil, err
		}
		v := x
		if attr {
			if v, err = path(x, by); err != nil {
				return nil, err
			}
		}
		ok, err := test(v, args)
		if err != nil {
			return nil, err
		}
		if ok == want {
			out.Items = append(out.Items, x)
		}
	}
	return out, nil
}

func groupBy(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	keys, vals := make([]any, len(items)), make([]any, len(items))
	pairs := make([]any, len(items))
	cased := truth(c.arg(2, "case_sensitive", false))
	for i, x := range items {
		if vals[i], err = path(x, c.arg(0, "attribute", "")); err != nil {
			return nil, err
		}
		if _, missing := vals[i].(Undefined); missing {
			vals[i] = c.arg(1, "default", vals[i])
		}
		if keys[i], err = sortKey(vals[i], nil, cased); err != nil {
			return nil, err
		}
		pairs[i] = &List{Items: []any{keys[i], vals[i], x}}
	}
	pairs, err = sorted(pairs, keys, false)
	if err != nil {
		return nil, err
	}
	out := &List{}
	var last any
	for i, p := range pairs {
		kv := p.(*List).Items
		if i == 0 || !equal(last, kv[0]) {
			out.Items = append(out.Items, &List{Items: []any{kv[1], &List{}}, Tuple: true})
			last = kv[0]
		}
		g := out.Items[len(out.Items)-1].(*List).Items[1].(*List)
		g.Items = append(g.Items, kv[2])
	}
	return out, nil
}

func batch(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	n, err := c.int(0, "linecount", 0)
	if err != nil || n < 1 {
		return nil, errors.New("wants how many go into a batch")
	}
	out := &List{}
	for part := range slices.Chunk(items, int(min(n, maxRepeat))) {
		l := &List{Items: slices.Clone(part)}
		if fill := c.arg(1, "fill_with", nil); fill != nil {
			for int64(len(l.Items)) < min(n, maxRepeat) {
				l.Items = append(l.Items, fill)
			}
		}
		out.Items = append(out.Items, l)
	}
	return out, nil
}

func toInt(c *filterCall) (any, error) {
	def := c.arg(0, "default", int64(0))
	switch x := c.x.(type) {
	case float64:
		if math.Abs(x) < 1<<62 {
			return int64(x), nil
		}
	case string:
		s := strings.ReplaceAll(strings.TrimSpace(x), "_", "")
		base, err := c.int(1, "base", 10)
		if err != nil || base < 2 || base > 36 {
			return nil, errors.New("bad base")
		}
		if n, err := strconv.ParseInt(s, int(base), 64); err == nil {
			return n, nil
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<62 {
			return int64(f), nil
		}
	default:
		if n, ok := integer(x); ok {
			return n, nil
		}
	}
	return def, nil
}

func toFloat(c *filterCall) (any, error) {
	if f, ok := number(c.x); ok {
		return f, nil
	}
	if s, ok := c.x.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return f, nil
		}
	}
	return c.arg(0, "default", 0.0), nil
}

func round(c *filterCall) (any, error) {
	x, ok := number(c.x)
	if !ok {
		return nil, fmt.Errorf("wants a number, not %s", describe(c.x))
	}
	n, err := c.int(0, "precision", 0)
	if err != nil || n < -300 || n > 300 {
		return nil, errors.New("bad precision")
	}
	scale := math.Pow(10, float64(n))
	switch m := str(c.arg(1, "method", "common")); m {
	case "common":
		if n >= 0 {
			f, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', int(n), 64), 64)
			return f, err
		}
		return math.RoundToEven(x*scale) / scale, nil
	case "ceil":
		return math.Ceil(x*scale) / scale, nil
	case "floor":
		return math.Floor(x*scale) / scale, nil
	default:
		return nil, fmt.Errorf("bad method %s", m)
	}
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
