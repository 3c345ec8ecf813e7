package chat

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// jsonStyle is how Python's json.dumps writes.
type jsonStyle struct {
	ascii     bool
	sort      bool
	indent    string // "" without line breaks
	lines     bool
	item, key string // separators
}

// toJSON is transformers' tojson filter: json.dumps with ensure_ascii=False, keys
// in their order, and nothing escaped for HTML.
func toJSON(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	st := jsonStyle{item: ", ", key: ": "}
	arg := func(name string, at int) *exec.Value {
		if v, ok := params.KwArgs[name]; ok {
			return v
		}
		if at < len(params.Args) {
			return params.Args[at]
		}
		return exec.AsValue(nil)
	}
	st.ascii = arg("ensure_ascii", 0).IsTrue()
	st.sort = arg("sort_keys", 3).IsTrue()
	switch v := arg("indent", 1); {
	case v.IsNil():
	case v.IsInteger():
		st.lines, st.item = true, ","
		st.indent = strings.Repeat(" ", min(max(v.Integer(), 0), 64))
	case v.IsString():
		st.lines, st.item, st.indent = true, ",", v.String()
	default:
		return exec.AsValue(fmt.Errorf("tojson: indent must be a number or a string"))
	}
	if v := arg("separators", 2); v.IsList() && v.Len() == 2 {
		st.item, st.key = v.Index(0).String(), v.Index(1).String()
	}
	var b strings.Builder
	if err := st.write(&b, in, 0); err != nil {
		return exec.AsValue(fmt.Errorf("tojson: %w", err))
	}
	return exec.AsSafeValue(b.String())
}

func (st *jsonStyle) write(b *strings.Builder, v *exec.Value, depth int) error {
	if depth > 200 {
		return fmt.Errorf("nested too deeply")
	}
	switch {
	case v.IsNil():
		b.WriteString("null")
	case v.IsString():
		b.WriteString(st.quote(v.String()))
	case v.IsBool():
		b.WriteString(strconv.FormatBool(v.Bool()))
	case v.IsInteger():
		b.WriteString(strconv.Itoa(v.Integer()))
	case v.IsFloat():
		b.WriteString(pythonFloat(v.Float()))
	case v.IsDict():
		return st.object(b, v, depth)
	case v.IsList():
		n := v.Len()
		return st.list(b, '[', ']', n, depth, func(i int) error { return st.write(b, v.Index(i), depth+1) })
	default:
		return fmt.Errorf("a value of type %T has no JSON", v.Interface())
	}
	return nil
}

func (st *jsonStyle) list(b *strings.Builder, begin, end byte, n, depth int, item func(int) error) error {
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

func (st *jsonStyle) object(b *strings.Builder, v *exec.Value, depth int) error {
	var keys []string
	vals := map[string]*exec.Value{}
	add := func(k string, x *exec.Value) {
		if _, ok := vals[k]; !ok {
			keys = append(keys, k)
		}
		vals[k] = x
	}
	switch d := v.Interface().(type) {
	case *exec.Dict:
		for _, p := range d.Pairs {
			add(p.Key.String(), p.Value)
		}
	case exec.Dict:
		for _, p := range d.Pairs {
			add(p.Key.String(), p.Value)
		}
	default:
		r := reflect.ValueOf(d)
		if r.Kind() != reflect.Map {
			return fmt.Errorf("a value of type %T has no JSON", d)
		}
		for _, k := range r.MapKeys() {
			add(fmt.Sprint(k.Interface()), exec.ToValue(r.MapIndex(k)))
		}
		// A Go map has no order. The only ones here are messages, whose role
		// comes first.
		sort.Slice(keys, func(i, j int) bool {
			if a, b := keys[i] == "role", keys[j] == "role"; a != b {
				return a
			}
			return keys[i] < keys[j]
		})
	}
	if st.sort {
		slices.Sort(keys)
	}
	return st.list(b, '{', '}', len(keys), depth, func(i int) error {
		b.WriteString(st.quote(keys[i]))
		b.WriteString(st.key)
		return st.write(b, vals[keys[i]], depth+1)
	})
}

// quote writes a string as json.dumps does: only quotes, backslashes and control
// characters are escaped, with ascii everything above U+007E too.
func (st *jsonStyle) quote(s string) string {
	var b strings.Builder
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
		case r < 0x20 || st.ascii && r > 0x7E && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		case st.ascii && r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// pythonFloat writes a number as Python's repr does.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	b, _ := json.Marshal(f) // finite
	s := string(b)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
