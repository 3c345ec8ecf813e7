package jinja

import (
	"errors"
	"math"
	"strings"
	"unicode"
)

type testFunc func(x any, args []any) (bool, error)

func is(f func(x any) bool) testFunc {
	return func(x any, _ []any) (bool, error) { return f(x), nil }
}

func ordered(f func(c int) bool) testFunc {
	return func(x any, args []any) (bool, error) {
		if len(args) != 1 {
			return false, errors.New("the test wants a value")
		}
		c, err := compare(x, args[0])
		return f(c), err
	}
}

func equals(x any, args []any) (bool, error) {
	if len(args) != 1 {
		return false, errors.New("the test wants a value")
	}
	return equal(x, args[0]), nil
}

// tests are what may follow "is".
var tests map[string]testFunc

func init() {
	undefined := func(x any) bool { _, ok := x.(Undefined); return ok }
	eq := testFunc(equals)
	ne := testFunc(func(x any, args []any) (bool, error) { ok, err := equals(x, args); return !ok, err })
	lt := ordered(func(c int) bool { return c < 0 })
	le := ordered(func(c int) bool { return c <= 0 })
	gt := ordered(func(c int) bool { return c > 0 })
	ge := ordered(func(c int) bool { return c >= 0 })
	tests = map[string]testFunc{
		"defined":   is(func(x any) bool { return !undefined(x) }),
		"undefined": is(undefined),
		"none":      is(func(x any) bool { return x == nil }),
		"boolean":   is(func(x any) bool { _, ok := x.(bool); return ok }),
		"true":      is(func(x any) bool { return x == true }),
		"false":     is(func(x any) bool { return x == false }),
		"string":    is(func(x any) bool { _, ok := x.(string); return ok }),
		"integer":   is(func(x any) bool { return typeName(x) == "int" }),
		"float":     is(func(x any) bool { _, ok := x.(float64); return ok }),
		"number":    is(func(x any) bool { _, ok := number(x); return ok || typeName(x) == "int" }),
		"mapping":   is(func(x any) bool { _, ok := x.(*Dict); return ok }),
		"sequence": is(func(x any) bool {
			switch x.(type) {
			case string, *List, *Dict:
				return true
			}
			return undefined(x)
		}),
		"iterable": is(func(x any) bool { _, err := elements(x); return err == nil }),
		"callable": is(func(x any) bool {
			switch x.(type) {
			case Func, *macro, *loop:
				return true
			}
			return false
		}),
		"lower": is(func(x any) bool {
			s := str(x)
			return s == strings.ToLower(s) && strings.ContainsFunc(s, unicode.IsLetter)
		}),
		"upper": is(func(x any) bool {
			s := str(x)
			return s == strings.ToUpper(s) && strings.ContainsFunc(s, unicode.IsLetter)
		}),
		"odd":  divisible(func(n int64) bool { return n%2 != 0 }),
		"even": divisible(func(n int64) bool { return n%2 == 0 }),
		"divisibleby": func(x any, args []any) (bool, error) {
			n, ok1 := integer(x)
			if len(args) != 1 {
				return false, errors.New("divisibleby wants a number")
			}
			d, ok2 := integer(args[0])
			if !ok1 || !ok2 || d == 0 {
				return false, errors.New("divisibleby wants numbers")
			}
			return n%d == 0, nil
		},
		"in": func(x any, args []any) (bool, error) {
			if len(args) != 1 {
				return false, errors.New("in wants a value")
			}
			return contains(args[0], x)
		},
		"sameas": func(x any, args []any) (bool, error) {
			if len(args) != 1 {
				return false, errors.New("sameas wants a value")
			}
			return typeName(x) == typeName(args[0]) && equal(x, args[0]), nil
		},
		"filter": func(x any, _ []any) (bool, error) { return filters[str(x)] != nil, nil },
		"test":   func(x any, _ []any) (bool, error) { return tests[str(x)] != nil, nil },
		"eq":     eq, "equalto": eq, "==": eq, "ne": ne, "!=": ne,
		"lt": lt, "lessthan": lt, "<": lt, "le": le, "<=": le,
		"gt": gt, "greaterthan": gt, ">": gt, "ge": ge, ">=": ge,
	}
}

func divisible(f func(int64) bool) testFunc {
	return func(x any, _ []any) (bool, error) {
		n, ok := integer(x)
		if !ok {
			v, isFloat := x.(float64)
			if !isFloat || v != math.Trunc(v) {
				return false, errors.New("the test wants a whole number")
			}
			n = int64(v)
		}
		return f(n), nil
	}
}
