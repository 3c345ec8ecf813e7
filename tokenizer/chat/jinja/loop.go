package jinja

import "errors"

// loop is the variable loop inside of a for.
type loop struct {
	items []any
	i     int
	depth int
	last  any // of changed()
	once  bool
	node  *forNode
	scope *scope
	in    *interp
}

func (in *interp) loop(n *forNode, v any, s *scope, depth int) error {
	all, err := elements(v)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	l := &loop{items: all, depth: depth, node: n, scope: s, in: in}
	if n.test != nil {
		l.items = nil
		for _, x := range all {
			if err := in.step(); err != nil {
				return err
			}
			sub := &scope{up: s}
			if err := assign(n.target, x, sub); err != nil {
				return err
			}
			ok, err := in.eval(n.test, sub)
			if err != nil {
				return err
			}
			if truth(ok) {
				l.items = append(l.items, x)
			}
		}
	}
	for i, x := range l.items {
		if err := in.step(); err != nil {
			return err
		}
		l.i = i
		sub := &scope{up: s}
		sub.set("loop", l)
		if err := assign(n.target, x, sub); err != nil {
			return err
		}
		switch err := in.run(n.body, sub); err {
		case nil, errContinue:
		case errBreak:
			return nil
		default:
			return err
		}
	}
	if len(l.items) == 0 {
		return in.run(n.other, &scope{up: s})
	}
	return nil
}

func (l *loop) attr(name string) any {
	n := len(l.items)
	at := func(i int) any {
		if i < 0 || i >= n {
			return Undefined{name}
		}
		return l.items[i]
	}
	switch name {
	case "index":
		return int64(l.i + 1)
	case "index0":
		return int64(l.i)
	case "revindex":
		return int64(n - l.i)
	case "revindex0":
		return int64(n - l.i - 1)
	case "first":
		return l.i == 0
	case "last":
		return l.i == n-1
	case "length":
		return int64(n)
	case "depth":
		return int64(l.depth)
	case "depth0":
		return int64(l.depth - 1)
	case "previtem":
		return at(l.i - 1)
	case "nextitem":
		return at(l.i + 1)
	case "cycle":
		return Func(func(args []any, _ map[string]any) (any, error) {
			if len(args) == 0 {
				return nil, errors.New("cycle wants values")
			}
			return args[l.i%len(args)], nil
		})
	case "changed":
		return Func(func(args []any, _ map[string]any) (any, error) {
			v := &List{Items: args, Tuple: true}
			if l.once && equal(l.last, v) {
				return false, nil
			}
			l.last, l.once = v, true
			return true, nil
		})
	}
	return Undefined{name}
}
