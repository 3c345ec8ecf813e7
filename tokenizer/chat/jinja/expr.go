package jinja

import (
	"fmt"
	"math"
)

func (in *interp) eval(e expr, s *scope) (any, error) {
	if err := in.step(); err != nil {
		return nil, err
	}
	switch n := e.(type) {
	case *constExpr:
		return n.value, nil
	case *nameExpr:
		if v, ok := s.get(n.name); ok {
			return v, nil
		}
		if g, ok := globals[n.name]; ok {
			return g, nil
		}
		return Undefined{n.name}, nil
	case *listExpr:
		l := &List{Items: make([]any, len(n.items)), Tuple: n.tuple}
		for i, x := range n.items {
			v, err := in.eval(x, s)
			if err != nil {
				return nil, err
			}
			l.Items[i] = v
		}
		return l, nil
	case *dictExpr:
		d := NewDict()
		for i := range n.keys {
			k, err := in.eval(n.keys[i], s)
			if err != nil {
				return nil, err
			}
			v, err := in.eval(n.values[i], s)
			if err != nil {
				return nil, err
			}
			if err := d.Set(k, v); err != nil {
				return nil, err
			}
		}
		return d, nil
	case *condExpr:
		c, err := in.eval(n.cond, s)
		switch {
		case err != nil:
			return nil, err
		case truth(c):
			return in.eval(n.then, s)
		case n.other != nil:
			return in.eval(n.other, s)
		}
		return Undefined{"the missing else"}, nil
	case *andExpr:
		l, err := in.eval(n.left, s)
		if err != nil || !truth(l) {
			return l, err
		}
		return in.eval(n.right, s)
	case *orExpr:
		l, err := in.eval(n.left, s)
		if err != nil || truth(l) {
			return l, err
		}
		return in.eval(n.right, s)
	case *notExpr:
		v, err := in.eval(n.x, s)
		return !truth(v), err
	case *unaryExpr:
		v, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		if n.op == "-" {
			if i, ok := integer(v); ok && i != math.MinInt64 {
				return -i, nil
			}
			if f, ok := v.(float64); ok {
				return -f, nil
			}
		} else if _, ok := number(v); ok {
			return v, nil
		}
		return nil, fmt.Errorf("cannot take %s of %s", n.op, describe(v))
	case *binaryExpr:
		l, err := in.eval(n.left, s)
		if err != nil {
			return nil, err
		}
		r, err := in.eval(n.right, s)
		if err != nil {
			return nil, err
		}
		return in.made(in.binary(n.op, l, r))
	case *compareExpr:
		return in.compare(n, s)
	case *attrExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		return attribute(x, n.name)
	case *itemExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		if sl, ok := n.key.(*sliceExpr); ok {
			return in.slice(x, sl, s)
		}
		k, err := in.eval(n.key, s)
		if err != nil {
			return nil, err
		}
		return item(x, k)
	case *callExpr:
		fn, err := in.eval(n.fn, s)
		if err != nil {
			return nil, err
		}
		pos, kw, err := in.args(&n.args, s)
		if err != nil {
			return nil, err
		}
		return in.made(in.call(fn, pos, kw, exprName(n.fn)))
	case *filterExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		return in.made(in.apply(n, x, s))
	case *testExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		pos, _, err := in.args(&n.args, s)
		if err != nil {
			return nil, err
		}
		ok, err := tests[n.name](x, pos)
		return ok != n.not, err
	}
	return nil, fmt.Errorf("cannot evaluate %T", e)
}

func exprName(e expr) string {
	switch n := e.(type) {
	case *nameExpr:
		return n.name
	case *attrExpr:
		return n.name
	}
	return "the value"
}

// describe names a value in an error.
func describe(v any) string {
	if u, ok := v.(Undefined); ok {
		return fmt.Sprintf("%q, which is undefined", u.Name)
	}
	return "a " + typeName(v)
}
