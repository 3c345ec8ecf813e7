package jinja

import (
	"fmt"
	"sort"
	"strings"
)

// sortKey is what items are ordered by: an attribute, and texts without regard to
// case unless told otherwise.
func sortKey(v, attr any, cased bool) (any, error) {
	if attr != nil {
		parts := strings.Split(str(attr), ",")
		if len(parts) > 1 {
			key := &List{Tuple: true}
			for _, p := range parts {
				k, err := sortKey(v, strings.TrimSpace(p), cased)
				if err != nil {
					return nil, err
				}
				key.Items = append(key.Items, k)
			}
			return key, nil
		}
		var err error
		if v, err = path(v, attr); err != nil {
			return nil, err
		}
	}
	if s, ok := v.(string); ok && !cased {
		return strings.ToLower(s), nil
	}
	return v, nil
}

// sorted orders items by keys, stably.
func sorted(items, keys []any, down bool) ([]any, error) {
	at := make([]int, len(items))
	for i := range at {
		at[i] = i
	}
	var err error
	sort.SliceStable(at, func(i, j int) bool {
		a, b := at[i], at[j]
		if down {
			a, b = b, a
		}
		n, e := compare(keys[a], keys[b])
		if e != nil && err == nil {
			err = e
		}
		return n < 0
	})
	out := make([]any, len(items))
	for i, k := range at {
		out[i] = items[k]
	}
	return out, err
}

func sortFilter(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	keys := make([]any, len(items))
	for i, x := range items {
		if keys[i], err = sortKey(x, c.arg(2, "attribute", nil), truth(c.arg(1, "case_sensitive", false))); err != nil {
			return nil, err
		}
	}
	out, err := sorted(items, keys, truth(c.arg(0, "reverse", false)))
	return &List{Items: out}, err
}

func dictSort(c *filterCall) (any, error) {
	d, ok := c.x.(*Dict)
	if !ok {
		return nil, fmt.Errorf("wants a dict, not %s", describe(c.x))
	}
	at := int64(0)
	switch by := str(c.arg(1, "by", "key")); by {
	case "key":
	case "value":
		at = 1
	default:
		return nil, fmt.Errorf("by must be key or value, not %s", by)
	}
	items := d.items()
	keys := make([]any, len(items))
	for i, x := range items {
		keys[i], _ = sortKey(x, at, truth(c.arg(0, "case_sensitive", false))) // pairs have both
	}
	out, err := sorted(items, keys, truth(c.arg(2, "reverse", false)))
	return &List{Items: out}, err
}

func unique(c *filterCall) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	out, seen := &List{}, NewDict()
	for _, x := range items {
		k, err := sortKey(x, c.arg(1, "attribute", nil), truth(c.arg(0, "case_sensitive", false)))
		if err != nil {
			return nil, err
		}
		if _, ok := seen.Get(k); ok {
			continue
		}
		if err := seen.Set(k, true); err != nil {
			return nil, err
		}
		out.Items = append(out.Items, x)
	}
	return out, nil
}

func extreme(c *filterCall, sign int) (any, error) {
	items, err := elements(c.x)
	if err != nil {
		return nil, err
	}
	var best, bestKey any
	for i, x := range items {
		k, err := sortKey(x, c.arg(1, "attribute", nil), truth(c.arg(0, "case_sensitive", false)))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			n, err := compare(k, bestKey)
			if err != nil {
				return nil, err
			}
			if n*sign <= 0 {
				continue
			}
		}
		best, bestKey = x, k
	}
	if len(items) == 0 {
		return Undefined{"the extreme of nothing"}, nil
	}
	return best, nil
}
