package data

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Columns says where the fields of a record come from: field name (prompt,
// completion, text, messages, instruction, input, output, system) to the name of
// a column, or to a pattern with columns in braces such as
// "Review: {text}\nSentiment:". In a pattern {{ and }} stand for braces.
type Columns map[string]string

// shape is a kind with its fields.
type shape struct {
	kind               Kind
	required, optional []string
}

// shapes in the order in which they are tried.
var shapes = []shape{
	{Chat, []string{"messages"}, nil},
	{ShareGPT, []string{"conversations"}, []string{"system"}},
	{Completion, []string{"prompt", "completion"}, nil},
	{Instruction, []string{"instruction", "output"}, []string{"input", "system"}},
	{Text, []string{"text"}, nil},
}

// expected tells people what a record may look like.
const expected = "messages, conversations, prompt and completion, instruction and output, or text"

// validate refuses a mapping of fields that no kind has.
func (c Columns) validate() error {
	var known []string
	for _, s := range shapes {
		known = append(append(known, s.required...), s.optional...)
	}
	for f := range c {
		if !slices.Contains(known, f) {
			return fmt.Errorf("column map: field %q: %w; expected one of %s", f, ErrFields, strings.Join(known, ", "))
		}
	}
	return nil
}

// detect finds the shape of a record, nil when there is none.
func (c Columns) detect(fields map[string]any) *shape {
	for i := range shapes {
		s := &shapes[i]
		mapped := len(c) == 0
		complete := true
		for _, f := range s.required {
			_, m := c[f]
			_, own := fields[f]
			mapped = mapped || m
			complete = complete && (m || own)
		}
		if mapped && complete {
			return s
		}
	}
	return nil
}

// value returns a field of a record. used collects the columns that were read.
func (c Columns) value(fields map[string]any, field string, used map[string]bool) (v any, missing string) {
	column, ok := c[field]
	if !ok {
		column = field
	}
	if !strings.ContainsAny(column, "{}") {
		v, ok = fields[column]
		if !ok {
			return nil, column
		}
		used[column] = true
		return v, ""
	}
	s, missing := fill(column, func(name string) (string, bool) {
		used[name] = true
		s, ok := fields[name].(string)
		return s, ok
	})
	return s, missing
}

// fill replaces the columns in braces; missing is one that get does not know.
func fill(pattern string, get func(name string) (string, bool)) (text, missing string) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; {
		case i+1 < len(pattern) && (ch == '{' || ch == '}') && pattern[i+1] == ch:
			b.WriteByte(ch)
			i++
		case ch == '{':
			end := strings.IndexByte(pattern[i:], '}')
			if end < 0 {
				return "", pattern[i:]
			}
			name := pattern[i+1 : i+end]
			s, ok := get(name)
			if !ok {
				return "", name
			}
			b.WriteString(s)
			i += end
		default:
			b.WriteByte(ch)
		}
	}
	return b.String(), ""
}

// columnList names the columns of a record for an error.
func columnList(fields map[string]any) string {
	names := slices.Sorted(maps.Keys(fields))
	if len(names) == 0 {
		return "an object without fields"
	}
	const most = 12
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return "fields " + strings.Join(names, ", ")
}

// jsonType names the type of a decoded value.
func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case float64:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}
