package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

func sum(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	total := c.arg(1, "start", int64(0))
	for _, x := range items {
		if a := c.arg(0, "attribute", nil); a != nil {
			if x, err = path(x, a); err != nil {
				return nil, err
			}
		}
		if total, err = c.in.binary("+", total, x); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func toInt(c *filterCall) (any, error) {
	def := c.arg(0, "default", int64(0))
	switch x := c.x.(type) {
	case bigInt:
		return x, nil
	case float64:
		if math.Abs(x) < 1<<62 {
			return int64(x), nil
		}
	case string:
		s := strings.ReplaceAll(strings.TrimSpace(x), "_", "")
		base, err := c.int(1, "base", 10)
		if err != nil || base < 2 || base > 36 {
			return nil, errors.New("bad base")
		}
		if n, err := strconv.ParseInt(s, int(base), 64); err == nil {
			return n, nil
		}
		if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<62 {
			return int64(f), nil
		}
	default:
		if n, ok := integer(x); ok {
			return n, nil
		}
	}
	return def, nil
}

func toFloat(c *filterCall) (any, error) {
	if f, ok := number(c.x); ok {
		return f, nil
	}
	if s, ok := c.x.(string); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
			return f, nil
		}
	}
	return c.arg(0, "default", 0.0), nil
}

func round(c *filterCall) (any, error) {
	x, ok := number(c.x)
	if !ok {
		return nil, fmt.Errorf("wants a number, not %s", describe(c.x))
	}
	n, err := c.int(0, "precision", 0)
	if err != nil || n < -300 || n > 300 {
		return nil, errors.New("bad precision")
	}
	scale := math.Pow(10, float64(n))
	switch m := str(c.arg(1, "method", "common")); m {
	case "common":
		if n >= 0 {
			f, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', int(n), 64), 64)
			return f, err
		}
		return math.RoundToEven(x*scale) / scale, nil
	case "ceil":
		return math.Ceil(x*scale) / scale, nil
	case "floor":
		return math.Floor(x*scale) / scale, nil
	default:
		return nil, fmt.Errorf("bad method %s", m)
	}
}
