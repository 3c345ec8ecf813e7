package jinja

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// jsonStyle is how Python's json.dumps writes.
type jsonStyle struct {
	ascii, sort bool
	lines       bool
	indent      string
	item, key   string // separators
}

// toJSON is transformers' tojson(ensure_ascii=False, indent=None, separators=None,
// sort_keys=False).
func toJSON(c *filterCall) (any, error) {
	st := jsonStyle{item: ", ", key: ": "}
	st.ascii = truth(c.arg(0, "ensure_ascii", false))
	st.sort = truth(c.arg(3, "sort_keys", false))
	switch v := c.arg(1, "indent", nil).(type) {
	case nil:
	case string:
		st.lines, st.item, st.indent = true, ",", v
	default:
		n, ok := integer(v)
		if !ok {
			return nil, fmt.Errorf("indent must be a number or a str, not %s", describe(v))
		}
		st.lines, st.item, st.indent = true, ",", strings.Repeat(" ", int(min(max(n, 0), 64)))
	}
	if v, ok := c.arg(2, "separators", nil).(*List); ok && len(v.Items) == 2 {
		st.item, st.key = str(v.Items[0]), str(v.Items[1])
	}
	var b strings.Builder
	if err := st.write(&b, c.x, 0); err != nil {
		return nil, err
	}
	return b.String(), nil
}

func (st *jsonStyle) write(b *strings.Builder, v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested too deeply")
	}
	if b.Len() > maxOutput {
		return fmt.Errorf("the text becomes too long")
	}
	switch x := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(x))
	case int64:
		b.WriteString(strconv.FormatInt(x, 10))
	case bigInt:
		b.WriteString(string(x))
	case float64:
		b.WriteString(pythonFloat(x, "NaN", "Infinity"))
	case string:
		st.quote(b, x)
	case *List:
		return st.seq(b, '[', ']', len(x.Items), depth, func(i int) error { return st.write(b, x.Items[i], depth+1) })
	case *Dict:
		keys := x.keys
		if st.sort {
			keys = append([]any{}, keys...)
			sort.SliceStable(keys, func(i, j int) bool { c, _ := compare(keys[i], keys[j]); return c < 0 })
		}
		return st.seq(b, '{', '}', len(keys), depth, func(i int) error {
			k, _ := x.Get(keys[i])
			switch name := keys[i].(type) {
			case string:
				st.quote(b, name)
			default:
				b.WriteByte('"')
				if err := st.write(b, name, depth+1); err != nil {
					return err
				}
				b.WriteByte('"')
			}
			b.WriteString(st.key)
			return st.write(b, k, depth+1)
		})
	default:
		return fmt.Errorf("%s has no JSON", describe(v))
	}
	return nil
}

func (st *jsonStyle) seq(b *strings.Builder, begin, end byte, n, depth int, item func(int) error) error {
	b.WriteByte(begin)
	for i := range n {
		if i > 0 {
			b.WriteString(st.item)
		}
		st.newline(b, depth+1)
		if err := item(i); err != nil {
			return err
		}
	}
	if n > 0 {
		st.newline(b, depth)
	}
	b.WriteByte(end)
	return nil
}

func (st *jsonStyle) newline(b *strings.Builder, depth int) {
	if st.lines {
		b.WriteByte('\n')
		b.WriteString(strings.Repeat(st.indent, depth))
	}
}

// quote writes a string: only quotes, backslashes and control characters are
// escaped, with ascii everything from U+007F on too.
func (st *jsonStyle) quote(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < 0x20 || st.ascii && r > 0x7F && r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		case st.ascii && r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}
