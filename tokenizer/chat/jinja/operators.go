package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

func (in *interp) compare(n *compareExpr, s *scope) (any, error) {
	l, err := in.eval(n.left, s)
	if err != nil {
		return nil, err
	}
	for i, op := range n.ops {
		r, err := in.eval(n.args[i], s)
		if err != nil {
			return nil, err
		}
		ok := false
		switch op {
		case "==":
			ok = equal(l, r)
		case "!=":
			ok = !equal(l, r)
		case "in", "not in":
			if ok, err = contains(r, l); err != nil {
				return nil, err
			}
			ok = ok == (op == "in")
		default:
			c, err := compare(l, r)
			if err != nil {
				return nil, err
			}
			ok = op == "<" && c < 0 || op == "<=" && c <= 0 || op == ">" && c > 0 || op == ">=" && c >= 0
		}
		if !ok {
			return false, nil
		}
		l = r
	}
	return true, nil
}

func (in *interp) binary(op string, l, r any) (any, error) {
	if op == "~" {
		return join(str(l), str(r))
	}
	bad := func() (any, error) {
		return nil, fmt.Errorf("cannot do %s %s %s", describe(l), op, describe(r))
	}
	if a, ok := l.(string); ok {
		switch b := r.(type) {
		case string:
			if op == "+" {
				return join(a, b)
			}
		case int64:
			if op == "*" {
				return repeatString(a, b)
			}
		}
		if op == "%" {
			return sprintf(a, r)
		}
		return bad()
	}
	if a, ok := l.(*List); ok {
		switch b := r.(type) {
		case *List:
			if op == "+" && a.Tuple == b.Tuple {
				if len(a.Items)+len(b.Items) > maxRepeat {
					return nil, errors.New("the list becomes too long")
				}
				return &List{Items: append(append([]any{}, a.Items...), b.Items...), Tuple: a.Tuple}, nil
			}
		case int64:
			if op == "*" {
				if b > 0 && int64(len(a.Items)) > maxRepeat/b {
					return nil, errors.New("the list becomes too long")
				}
				out := &List{Items: make([]any, 0, len(a.Items)*int(max(b, 0))), Tuple: a.Tuple}
				for ; b > 0 && len(a.Items) > 0; b-- {
					out.Items = append(out.Items, a.Items...)
				}
				return out, nil
			}
		}
		return bad()
	}
	if n, ok := integer(l); ok && op == "*" {
		if b, ok := r.(string); ok {
			return repeatString(b, n)
		}
		if b, ok := r.(*List); ok {
			return in.binary(op, b, n)
		}
	}
	a, ok1 := integer(l)
	b, ok2 := integer(r)
	if ok1 && ok2 && op != "/" {
		return integers(op, a, b)
	}
	x, ok1 := number(l)
	y, ok2 := number(r)
	if !ok1 || !ok2 {
		return bad()
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "**":
		return math.Pow(x, y), nil
	}
	if y == 0 {
		return nil, errors.New("division by zero")
	}
	switch op {
	case "/":
		return x / y, nil
	case "//":
		return math.Floor(x / y), nil
	}
	m := math.Mod(x, y)
	if m != 0 && (m < 0) != (y < 0) {
		m += y
	}
	return m, nil
}

func join(a, b string) (any, error) {
	if len(a)+len(b) > maxOutput {
		return nil, errors.New("the text becomes too long")
	}
	return a + b, nil
}

func repeatString(s string, n int64) (any, error) {
	if n <= 0 {
		return "", nil
	}
	if int64(len(s)) > maxRepeat/n {
		return nil, errors.New("the text becomes too long")
	}
	return strings.Repeat(s, int(n)), nil
}

var errOverflow = errors.New("a number becomes too large")

func integers(op string, a, b int64) (any, error) {
	switch op {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return c, nil
		}
		return nil, errOverflow
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return c, nil
		}
		return nil, errOverflow
	case "*":
		if a == 0 || b == 0 {
			return int64(0), nil
		}
		if c := a * b; c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64) {
			return c, nil
		}
		return nil, errOverflow
	case "//", "%":
		if b == 0 {
			return nil, errors.New("division by zero")
		}
		if b == -1 {
			if op == "%" {
				return int64(0), nil
			}
			return integers("-", 0, a)
		}
		q, m := a/b, a%b
		if m != 0 && (m < 0) != (b < 0) {
			q, m = q-1, m+b
		}
		if op == "//" {
			return q, nil
		}
		return m, nil
	}
	if b < 0 { // a power
		return math.Pow(float64(a), float64(b)), nil
	}
	switch {
	case a == 1 || b == 0:
		return int64(1), nil
	case a == 0:
		return int64(0), nil
	case a == -1:
		return 1 - 2*(b%2), nil
	}
	out := int64(1)
	for ; b > 0; b-- { // at most 63 times before it overflows
		v, err := integers("*", out, a)
		if err != nil {
			return nil, err
		}
		out = v.(int64)
	}
	return out, nil
}
