package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// metaType names the type of a metadata value as GGUF tools do: u32, str, [str].
func metaType(v any) string {
	if v == nil {
		return ""
	}
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Slice {
		return "[" + kindText(t.Elem().Kind()) + "]"
	}
	return kindText(t.Kind())
}

func kindText(k reflect.Kind) string {
	s := k.String()
	switch {
	case strings.HasPrefix(s, "uint"):
		return "u" + s[4:]
	case k == reflect.Interface:
		return "any"
	case strings.HasPrefix(s, "int"):
		return "i" + s[3:]
	case strings.HasPrefix(s, "float"):
		return "f" + s[5:]
	case s == "string":
		return "str"
	}
	return s
}

// arrayLen returns the length of an array value.
func arrayLen(v any) (int, bool) {
	r := reflect.ValueOf(v)
	if !r.IsValid() || r.Kind() != reflect.Slice {
		return 0, false
	}
	return r.Len(), true
}

// valueText writes a metadata or configuration value on one line: arrays by
// their first elements and length, texts with line ends escaped.
func valueText(v any) string {
	switch x := v.(type) {
	case string:
		if strings.ContainsFunc(x, func(r rune) bool { return r < ' ' }) {
			return strconv.Quote(x)
		}
		return x
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(x), 'g', -1, 32)
	case map[string]any:
		b, err := json.Marshal(x)
		if err != nil {
			return fmt.Sprint(x)
		}
		return string(b)
	case []any:
		var parts []string
		for _, e := range x {
			parts = append(parts, valueText(e))
		}
		return strings.Join(parts, ", ")
	}
	n, ok := arrayLen(v)
	if !ok {
		return fmt.Sprint(v)
	}
	const shown = 4
	r := reflect.ValueOf(v)
	var parts []string
	for i := range min(n, shown) {
		e := r.Index(i).Interface()
		if s, ok := e.(string); ok {
			parts = append(parts, strconv.Quote(s))
		} else {
			parts = append(parts, valueText(e))
		}
	}
	s := strings.Join(parts, ", ")
	if n > shown {
		return fmt.Sprintf("%d: %s, …", n, s)
	}
	return s
}

// shapeText writes a shape as [rows, columns].
func shapeText(shape []int) string {
	var parts []string
	for _, d := range shape {
		parts = append(parts, strconv.Itoa(d))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
