package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxRange bounds range(), as Jinja's sandbox does.
const maxRange = 100000

// globals are the functions that every template has.
var globals = map[string]any{
	"range": Func(rangeOf),
	"dict": Func(func(args []any, kw map[string]any) (any, error) {
		return dictOf("dict", args, kw)
	}),
	"namespace": Func(func(args []any, kw map[string]any) (any, error) {
		d, err := dictOf("namespace", args, kw)
		if err != nil {
			return nil, err
		}
		for _, k := range d.keys {
			if strings.HasPrefix(str(k), "_") {
				return nil, fmt.Errorf("a namespace cannot have the attribute %s", str(k))
			}
		}
		return &namespace{d}, nil
	}),
	"raise_exception": Func(func(args []any, _ map[string]any) (any, error) {
		r := &Raised{}
		if len(args) > 0 {
			r.Message = str(args[0])
		}
		return nil, r
	}),
	"strftime_now": Func(func(args []any, _ map[string]any) (any, error) {
		if len(args) != 1 {
			return nil, errors.New("wants a format")
		}
		return strftime(time.Now(), str(args[0])), nil
	}),
}

// dictOf copies a dictionary or list of pairs and adds keyword arguments.
func dictOf(name string, args []any, kw map[string]any) (*Dict, error) {
	d := NewDict()
	if len(args) > 1 {
		return nil, fmt.Errorf("%s takes one dictionary", name)
	}
	if len(args) == 1 {
		if from, ok := args[0].(*Dict); ok {
			d = from.Clone()
		} else {
			pairs, err := elements(args[0])
			if err != nil {
				return nil, err
			}
			for _, p := range pairs {
				kv, err := elements(p)
				if err != nil || len(kv) != 2 {
					return nil, fmt.Errorf("%s wants pairs", name)
				}
				if err := d.Set(kv[0], kv[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, k := range sortedKeys(kw) {
		_ = d.Set(k, kw[k]) // a string is a key
	}
	return d, nil
}

func rangeOf(args []any, _ map[string]any) (any, error) {
	bound := [3]int64{0, 0, 1}
	at := 0
	switch len(args) {
	case 1:
		at = 1
	case 2, 3:
	default:
		return nil, fmt.Errorf("takes 1 to 3 numbers, got %d", len(args))
	}
	for i, a := range args {
		n, ok := integer(a)
		if !ok {
			return nil, fmt.Errorf("takes whole numbers, got %s", describe(a))
		}
		bound[at+i] = n
	}
	start, stop, step := bound[0], bound[1], bound[2]
	if step == 0 {
		return nil, errors.New("step 0")
	}
	out := &List{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; {
		if len(out.Items) == maxRange {
			return nil, fmt.Errorf("more than %d numbers", maxRange)
		}
		out.Items = append(out.Items, i)
		next := i + step
		if (next > i) != (step > 0) {
			break
		}
		i = next
	}
	return out, nil
}

// strftime writes a time by the directives of C that templates use; others stay
// as they are.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'B': "January", 'b': "Jan", 'A': "Monday", 'a': "Mon",
		'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		c, pad := format[i], true
		if c == '-' && i+1 < len(format) {
			i++
			c, pad = format[i], false
		}
		switch layout, ok := layouts[c]; {
		case ok:
			s := t.Format(layout)
			if !pad && len(s) > 1 && strings.IndexByte("mdHIMS", c) >= 0 {
				s = strings.TrimPrefix(s, "0")
			}
			b.WriteString(s)
		case c == 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case c == '%':
			b.WriteByte('%')
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}
