package jinja

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Values are nil (None), bool, int64, float64, string, *List, *Dict, Undefined
// and what only templates make: functions, namespaces, loops.

// bigInt is a whole number beyond int64, in its decimal digits: JSON schemas hold
// such bounds. It prints exactly; nothing is computed with it.
type bigInt string

// Undefined is a name, key or attribute that does not exist. It prints as
// nothing, is false and has no elements; anything else that is done with it fails.
type Undefined struct{ Name string }

// List is a list, or a tuple. Templates cannot change it.
type List struct {
	Items []any
	Tuple bool
}

// NewList returns a list of items.
func NewList(items ...any) *List { return &List{Items: items} }

// Dict is a dictionary that keeps the order of its keys.
type Dict struct {
	keys []any
	vals map[any]any // by hashed key, nil while empty
}

// NewDict returns an empty dictionary.
func NewDict() *Dict { return &Dict{} }

// hash returns what a key is found by: numbers that are equal are one key.
func hash(k any) (any, error) {
	switch x := k.(type) {
	case nil, string, int64, bigInt:
		return x, nil
	case bool:
		if x {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		if i := int64(x); float64(i) == x {
			return i, nil
		}
		return x, nil
	}
	return nil, fmt.Errorf("a %s cannot be a key", typeName(k))
}

// Set puts a value under a key, at the end if the key is new.
func (d *Dict) Set(key, value any) error {
	h, err := hash(key)
	if err != nil {
		return err
	}
	if _, ok := d.vals[h]; !ok {
		d.keys = append(d.keys, key)
	}
	if d.vals == nil {
		d.vals = map[any]any{}
	}
	d.vals[h] = value
	return nil
}

// Get returns the value of a key.
func (d *Dict) Get(key any) (any, bool) {
	h, err := hash(key)
	if err != nil {
		return nil, false
	}
	v, ok := d.vals[h]
	return v, ok
}

// Len returns the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

func (d *Dict) items() []any {
	out := make([]any, len(d.keys))
	for i, k := range d.keys {
		v, _ := d.Get(k)
		out[i] = &List{Items: []any{k, v}, Tuple: true}
	}
	return out
}

// Keys returns the keys in their order.
func (d *Dict) Keys() []any { return slices.Clone(d.keys) }

// Clone returns a copy with the same values.
func (d *Dict) Clone() *Dict {
	out := NewDict()
	for _, k := range d.keys {
		v, _ := d.Get(k)
		_ = out.Set(k, v) // it was a key before
	}
	return out
}

// Func is a function that templates may call. Keyword arguments come by name.
type Func func(args []any, kwargs map[string]any) (any, error)

// namespace is what namespace() makes: the one thing a template may change.
type namespace struct{ attrs *Dict }

// macro is a function written in the template.
type macro struct {
	node  *macroNode
	scope *scope
}

func typeName(v any) string {
	switch x := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, bigInt:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *List:
		if x.Tuple {
			return "tuple"
		}
		return "list"
	case *Dict:
		return "dict"
	case Undefined:
		return "Undefined"
	case *namespace:
		return "Namespace"
	case *loop:
		return "LoopContext"
	case *macro:
		return "Macro"
	}
	return "function"
}

func truth(v any) bool {
	switch x := v.(type) {
	case nil, Undefined:
		return false
	case bool:
		return x
	case int64:
		return x != 0
	case float64:
		return x != 0
	case string:
		return x != ""
	case *List:
		return len(x.Items) > 0
	case *Dict:
		return x.Len() > 0
	}
	return true
}

// str is Python's str().
func str(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case Undefined:
		return ""
	}
	var b strings.Builder
	repr(&b, v, 0)
	return b.String()
}

// repr is Python's repr().
func repr(b *strings.Builder, v any, depth int) {
	if depth > maxDepth {
		b.WriteString("...")
		return
	}
	seq := func(begin, end string, items []any) {
		b.WriteString(begin)
		for i, x := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			repr(b, x, depth+1)
		}
		b.WriteString(end)
	}
	switch x := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if x {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(x, 10))
	case bigInt:
		b.WriteString(string(x))
	case float64:
		b.WriteString(pythonFloat(x, "nan", "inf"))
	case string:
		quote(b, x)
	case Undefined:
		b.WriteString("Undefined")
	case *List:
		switch {
		case x.Tuple && len(x.Items) == 1:
			seq("(", ",)", x.Items)
		case x.Tuple:
			seq("(", ")", x.Items)
		default:
			seq("[", "]", x.Items)
		}
	case *Dict:
		b.WriteByte('{')
		for i, k := range x.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			repr(b, k, depth+1)
			b.WriteString(": ")
			val, _ := x.Get(k)
			repr(b, val, depth+1)
		}
		b.WriteByte('}')
	case *namespace:
		b.WriteString("<Namespace ")
		repr(b, x.attrs, depth+1)
		b.WriteByte('>')
	default:
		b.WriteString("<" + typeName(v) + ">")
	}
}

// quote writes a string as Python's repr does.
func quote(b *strings.Builder, s string) {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7F || r >= 0x80 && r < 0x100 && !unicode.IsPrint(r):
			fmt.Fprintf(b, `\x%02x`, r)
		case r >= 0x100 && !unicode.IsPrint(r) && r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		case r >= 0x10000 && !unicode.IsPrint(r):
			fmt.Fprintf(b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(q)
}

// pythonFloat writes a number as Python's repr does.
func pythonFloat(f float64, nan, inf string) string {
	switch {
	case math.IsNaN(f):
		return nan
	case math.IsInf(f, 1):
		return inf
	case math.IsInf(f, -1):
		return "-" + inf
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func number(v any) (f float64, ok bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	case int64:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

func integer(v any) (int64, bool) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	case int64:
		return x, true
	}
	return 0, false
}

func equal(a, b any) bool {
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			return x == y
		}
	}
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	switch x := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := b.(string)
		return ok && x == y
	case Undefined:
		_, ok := b.(Undefined)
		return ok
	case *List:
		y, ok := b.(*List)
		return ok && x.Tuple == y.Tuple && slices.EqualFunc(x.Items, y.Items, equal)
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || x.Len() != y.Len() {
			return false
		}
		for _, k := range x.keys {
			v, _ := x.Get(k)
			w, ok := y.Get(k)
			if !ok || !equal(v, w) {
				return false
			}
		}
		return true
	case *namespace, *loop, *macro, bigInt:
		return a == b
	}
	return false
}

// compare orders two values.
func compare(a, b any) (int, error) {
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			switch {
			case x < y:
				return -1, nil
			case x > y:
				return 1, nil
			}
			return 0, nil
		}
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil
		}
	case *List:
		if y, ok := b.(*List); ok && x.Tuple == y.Tuple {
			for i := range min(len(x.Items), len(y.Items)) {
				if !equal(x.Items[i], y.Items[i]) {
					return compare(x.Items[i], y.Items[i])
				}
			}
			return len(x.Items) - len(y.Items), nil
		}
	}
	return 0, fmt.Errorf("cannot order %s and %s", typeName(a), typeName(b))
}

// elements lists what a loop over a value gives.
func elements(v any) ([]any, error) {
	switch x := v.(type) {
	case Undefined:
		return nil, nil
	case *List:
		return x.Items, nil
	case *Dict:
		return x.keys, nil
	case string:
		out := make([]any, 0, len(x))
		for _, r := range x {
			out = append(out, string(r))
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s is not iterable", typeName(v))
}

func length(v any) (int, error) {
	switch x := v.(type) {
	case Undefined:
		return 0, nil
	case string:
		return utf8.RuneCountInString(x), nil
	case *List:
		return len(x.Items), nil
	case *Dict:
		return x.Len(), nil
	case *loop:
		return len(x.items), nil
	}
	return 0, fmt.Errorf("%s has no length", typeName(v))
}

// contains is Python's "x in v".
func contains(v, x any) (bool, error) {
	switch c := v.(type) {
	case string:
		s, ok := x.(string)
		if !ok {
			return false, fmt.Errorf("'in <str>' wants a str, not %s", typeName(x))
		}
		return strings.Contains(c, s), nil
	case *Dict:
		_, ok := c.Get(x)
		return ok, nil
	case *List:
		return slices.ContainsFunc(c.Items, func(y any) bool { return equal(x, y) }), nil
	case Undefined:
		return false, nil
	}
	return false, fmt.Errorf("%s is not iterable", typeName(v))
}
