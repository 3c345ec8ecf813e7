package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

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

// elementsIfAny is elements for the filters that take anything false, such as none, for
// nothing.
func elementsIfAny(v any) ([]any, error) {
	if !truth(v) {
		return nil, nil
	}
	return elements(v)
}

// mapFilter takes an attribute of each item or applies a filter to each.
func mapFilter(c *filterCall) (any, error) {
	items, err := elementsIfAny(c.x)
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
	items, err := elementsIfAny(c.x)
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
