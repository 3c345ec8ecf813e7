package jinja

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// filterCall is one use of a filter: x|name(args).
type filterCall struct {
	in     *interp
	x      any
	args   []any
	kwargs map[string]any
}

// arg returns an argument by its place or name.
func (c *filterCall) arg(i int, name string, def any) any {
	if i < len(c.args) {
		return c.args[i]
	}
	if v, ok := c.kwargs[name]; ok {
		return v
	}
	return def
}

func (c *filterCall) int(i int, name string, def int64) (int64, error) {
	v := c.arg(i, name, def)
	n, ok := integer(v)
	if !ok {
		return 0, fmt.Errorf("%s must be a whole number, not %s", name, describe(v))
	}
	return n, nil
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

type filterFunc func(c *filterCall) (any, error)

func text(f func(string) string) filterFunc {
	return func(c *filterCall) (any, error) { return f(str(c.x)), nil }
}

// filters are what may follow "|".
var filters map[string]filterFunc

func init() {
	length := func(c *filterCall) (any, error) { n, err := length(c.x); return int64(n), err }
	def := func(c *filterCall) (any, error) {
		_, missing := c.x.(Undefined)
		if missing || truth(c.arg(1, "boolean", false)) && !truth(c.x) {
			return c.arg(0, "default_value", ""), nil
		}
		return c.x, nil
	}
	filters = map[string]filterFunc{
		"tojson": toJSON,
		"length": length, "count": length,
		"default": def, "d": def,
		"upper":      text(strings.ToUpper),
		"lower":      text(strings.ToLower),
		"capitalize": text(capitalize),
		"title":      text(titleFilter),
		"string":     text(func(s string) string { return s }),
		"safe":       text(func(s string) string { return s }),
		"escape":     text(escapeHTML), "e": text(escapeHTML), "forceescape": text(escapeHTML),
		"trim": func(c *filterCall) (any, error) {
			return strip(true, true)(str(c.x), []any{c.arg(0, "chars", nil)}, nil)
		},
		"replace": func(c *filterCall) (any, error) {
			n, err := c.int(2, "count", -1)
			if c.arg(2, "count", nil) == nil {
				n, err = -1, nil
			}
			if err != nil {
				return nil, err
			}
			return replaceN(str(c.x), []any{str(c.arg(0, "old", Undefined{})), str(c.arg(1, "new", Undefined{})), n}, nil)
		},
		"join":       joinFilter,
		"list":       listFilter,
		"first":      func(c *filterCall) (any, error) { return end(c, 0) },
		"last":       func(c *filterCall) (any, error) { return end(c, -1) },
		"reverse":    reverse,
		"sort":       sortFilter,
		"unique":     unique,
		"min":        func(c *filterCall) (any, error) { return extreme(c, -1) },
		"max":        func(c *filterCall) (any, error) { return extreme(c, 1) },
		"sum":        sum,
		"map":        mapFilter,
		"select":     func(c *filterCall) (any, error) { return choose(c, false, true) },
		"reject":     func(c *filterCall) (any, error) { return choose(c, false, false) },
		"selectattr": func(c *filterCall) (any, error) { return choose(c, true, true) },
		"rejectattr": func(c *filterCall) (any, error) { return choose(c, true, false) },
		"groupby":    groupBy,
		"batch":      batch,
		"items": func(c *filterCall) (any, error) {
			switch x := c.x.(type) {
			case *Dict:
				return &List{Items: x.items()}, nil
			case Undefined:
				return &List{}, nil
			}
			return nil, fmt.Errorf("wants a dict, not %s", describe(c.x))
		},
		"dictsort": dictSort,
		"attr": func(c *filterCall) (any, error) {
			return attribute(c.x, str(c.arg(0, "name", "")))
		},
		"abs": func(c *filterCall) (any, error) {
			if n, ok := integer(c.x); ok && n != math.MinInt64 {
				return max(n, -n), nil
			}
			if f, ok := c.x.(float64); ok {
				return math.Abs(f), nil
			}
			return nil, fmt.Errorf("wants a number, not %s", describe(c.x))
		},
		"int":       toInt,
		"float":     toFloat,
		"round":     round,
		"indent":    indent,
		"format":    format,
		"center":    func(c *filterCall) (any, error) { return pad(2)(str(c.x), []any{c.arg(0, "width", int64(80))}, nil) },
		"wordcount": func(c *filterCall) (any, error) { return int64(len(words(str(c.x)))), nil },
		"truncate":  truncate,
	}
}
