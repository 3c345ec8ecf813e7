package jinja

import (
	"errors"
	"fmt"
	"strings"
)

// attribute is x.name: a method or attribute, then an item.
func attribute(x any, name string) (any, error) {
	if u, ok := x.(Undefined); ok {
		return nil, fmt.Errorf("%q is undefined and has no attribute %q", u.Name, name)
	}
	if strings.HasPrefix(name, "_") {
		return Undefined{name}, nil
	}
	switch v := x.(type) {
	case *loop:
		return v.attr(name), nil
	case *namespace:
		if a, ok := v.attrs.Get(name); ok {
			return a, nil
		}
		return Undefined{name}, nil
	case string:
		if m := stringMethods[name]; m != nil {
			return Func(func(args []any, kw map[string]any) (any, error) { return m(v, args, kw) }), nil
		}
	case *List:
		if m := listMethods[name]; m != nil {
			return Func(func(args []any, kw map[string]any) (any, error) { return m(v, args) }), nil
		}
	case *Dict:
		if m := dictMethods[name]; m != nil {
			return Func(func(args []any, kw map[string]any) (any, error) { return m(v, args) }), nil
		}
		if a, ok := v.Get(name); ok {
			return a, nil
		}
	case *macro:
		if name == "name" {
			return v.node.name, nil
		}
	}
	return Undefined{name}, nil
}

// item is x[key]: an item, then an attribute.
func item(x, key any) (any, error) {
	switch v := x.(type) {
	case Undefined:
		return nil, fmt.Errorf("%q is undefined and has no item %s", v.Name, str(key))
	case *Dict:
		if a, ok := v.Get(key); ok {
			return a, nil
		}
	case *List:
		if i, ok := integer(key); ok {
			if i < 0 {
				i += int64(len(v.Items))
			}
			if i >= 0 && i < int64(len(v.Items)) {
				return v.Items[i], nil
			}
			return Undefined{str(key)}, nil
		}
	case string:
		if i, ok := integer(key); ok {
			rs := []rune(v)
			if i < 0 {
				i += int64(len(rs))
			}
			if i >= 0 && i < int64(len(rs)) {
				return string(rs[i]), nil
			}
			return Undefined{str(key)}, nil
		}
	}
	if name, ok := key.(string); ok {
		return attribute(x, name)
	}
	return Undefined{str(key)}, nil
}

func (in *interp) slice(x any, n *sliceExpr, s *scope) (any, error) {
	var bound [3]*int64
	for i, e := range []expr{n.start, n.stop, n.step} {
		if e == nil {
			continue
		}
		v, err := in.eval(e, s)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		k, ok := integer(v)
		if !ok {
			return nil, fmt.Errorf("a slice wants whole numbers, not %s", describe(v))
		}
		bound[i] = &k
	}
	var items []any
	var err error
	switch v := x.(type) {
	case *List:
		items = v.Items
	case string:
		items, err = elements(v)
	default:
		return nil, fmt.Errorf("cannot slice %s", describe(x))
	}
	if err != nil {
		return nil, err
	}
	size, step := int64(len(items)), int64(1)
	if bound[2] != nil {
		if step = *bound[2]; step == 0 {
			return nil, errors.New("a slice with step 0")
		}
	}
	clip := func(b *int64, def int64) int64 {
		if b == nil {
			return def
		}
		i := *b
		if i < 0 {
			i += size
		}
		if step > 0 {
			return min(max(i, 0), size)
		}
		return min(max(i, -1), size-1)
	}
	out := []any{}
	if step > 0 {
		for i, end := clip(bound[0], 0), clip(bound[1], size); i < end; i += step {
			out = append(out, items[i])
			if step > size {
				break
			}
		}
	} else {
		for i, end := clip(bound[0], size-1), clip(bound[1], -1); i > end; i += step {
			out = append(out, items[i])
			if step < -size {
				break
			}
		}
	}
	if _, ok := x.(string); ok {
		var b strings.Builder
		for _, c := range out {
			b.WriteString(c.(string))
		}
		return b.String(), nil
	}
	return &List{Items: out, Tuple: x.(*List).Tuple}, nil
}
