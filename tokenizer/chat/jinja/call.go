package jinja

import (
	"errors"
	"fmt"
	"strings"
)

func (in *interp) applyAll(fs []*filterExpr, v any, s *scope) (any, error) {
	for _, f := range fs {
		var err error
		if v, err = in.apply(f, v, s); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (in *interp) apply(f *filterExpr, x any, s *scope) (any, error) {
	pos, kw, err := in.args(&f.args, s)
	if err != nil {
		return nil, err
	}
	filter := filters[f.name]
	if filter == nil {
		return nil, fmt.Errorf("no filter named %q", f.name)
	}
	v, err := filter(&filterCall{in: in, x: x, args: pos, kwargs: kw})
	if err != nil {
		return nil, fmt.Errorf("filter %s: %w", f.name, err)
	}
	return v, nil
}

func (in *interp) args(a *callArgs, s *scope) (pos []any, kw map[string]any, err error) {
	for _, e := range a.pos {
		v, err := in.eval(e, s)
		if err != nil {
			return nil, nil, err
		}
		pos = append(pos, v)
	}
	if a.star != nil {
		v, err := in.eval(a.star, s)
		if err != nil {
			return nil, nil, err
		}
		items, err := elements(v)
		if err != nil {
			return nil, nil, err
		}
		pos = append(pos, items...)
	}
	put := func(k string, v any) error {
		if kw == nil {
			kw = map[string]any{}
		}
		if _, ok := kw[k]; ok {
			return fmt.Errorf("argument %s is given twice", k)
		}
		kw[k] = v
		return nil
	}
	for i, e := range a.values {
		v, err := in.eval(e, s)
		if err != nil {
			return nil, nil, err
		}
		if err := put(a.names[i], v); err != nil {
			return nil, nil, err
		}
	}
	if a.starStar != nil {
		v, err := in.eval(a.starStar, s)
		if err != nil {
			return nil, nil, err
		}
		d, ok := v.(*Dict)
		if !ok {
			return nil, nil, fmt.Errorf("** wants a dict, not %s", typeName(v))
		}
		for _, k := range d.keys {
			x, _ := d.Get(k)
			if err := put(str(k), x); err != nil {
				return nil, nil, err
			}
		}
	}
	return pos, kw, nil
}

func (in *interp) call(fn any, pos []any, kw map[string]any, name string) (any, error) {
	switch f := fn.(type) {
	case Func:
		v, err := f(pos, kw)
		var r *Raised
		if err != nil && !errors.As(err, &r) {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return v, err
	case *macro:
		return in.callMacro(f, pos, kw, nil)
	case *loop: // loop(children) of a recursive loop
		if !f.node.recursive || len(pos) != 1 {
			return nil, errors.New("loop cannot be called: the for is not recursive")
		}
		old := in.out
		in.out = new(strings.Builder)
		err := in.loop(f.node, pos[0], f.scope, f.depth+1)
		text := in.out.String()
		in.out = old
		return text, err
	}
	return nil, fmt.Errorf("cannot call %s: it is %s", name, describe(fn))
}

func (in *interp) callMacro(m *macro, pos []any, kw map[string]any, caller any) (any, error) {
	if in.calls++; in.calls > maxCalls {
		return nil, errors.New("macros call one another too deeply")
	}
	defer func() { in.calls-- }()
	s := &scope{up: m.scope}
	n := m.node
	if len(pos) > len(n.params) {
		return nil, fmt.Errorf("macro %s takes %d arguments, got %d", n.name, len(n.params), len(pos))
	}
	used := 0
	for i, p := range n.params {
		v, ok := kw[p]
		if ok {
			used++
			if i < len(pos) {
				return nil, fmt.Errorf("macro %s: argument %s is given twice", n.name, p)
			}
		}
		switch d := i - (len(n.params) - len(n.defaults)); {
		case i < len(pos):
			v = pos[i]
		case ok:
		case d >= 0:
			var err error
			if v, err = in.eval(n.defaults[d], s); err != nil {
				return nil, err
			}
		default:
			v = Undefined{p}
		}
		s.set(p, v)
	}
	if c, ok := kw["caller"]; ok && caller == nil {
		caller = c
		used++
	}
	if used < len(kw) {
		return nil, fmt.Errorf("macro %s got an argument that it does not have", n.name)
	}
	if caller != nil {
		s.set("caller", caller)
	}
	return in.capture(n.body, s)
}
