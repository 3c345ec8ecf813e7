package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// record takes the fields of one row. Its error lacks the place.
func record(r row, s *shape, columns Columns, used map[string]bool) (rec Record, e *LineError) {
	rec.Kind = s.kind
	get := func(field string) any {
		v, missing := columns.value(s, r.fields, field, used)
		if missing != "" && slices.Contains(s.required, field) && e == nil {
			e = &LineError{Found: columnList(r.fields) + lacking + strconv.Quote(missing)}
		}
		return v
	}
	text := func(field string, dst *string) {
		v := get(field)
		str, ok := v.(string)
		if !ok && e == nil && (v != nil || slices.Contains(s.required, field)) {
			e = &LineError{Found: fmt.Sprintf("%q is %s", field, jsonType(v)), Want: "a string"}
		}
		*dst = str
	}
	list := func(field string) (out []Message) {
		v := get(field)
		if e == nil {
			out, e = messages(field, v)
		}
		return out
	}
	switch s.kind {
	case Chat:
		rec.Messages = list("messages")
	case ShareGPT:
		text("system", &rec.System)
		if rec.System != "" {
			rec.Messages = []Message{{Role: "system", Content: rec.System}}
		}
		rec.Messages = append(rec.Messages, list("conversations")...)
	case Completion:
		_, pl := listOf(get("prompt"))
		_, cl := listOf(get("completion"))
		if pl && cl {
			rec.Messages = list("prompt")
			rec.Context = len(rec.Messages)
			rec.Messages = append(rec.Messages, list("completion")...)
			break
		}
		text("prompt", &rec.Prompt)
		text("completion", &rec.Completion)
	case Instruction:
		text("system", &rec.System)
		text("instruction", &rec.Instruction)
		text("input", &rec.Input)
		text("output", &rec.Output)
	case Text:
		text("text", &rec.Text)
	case TextLabel:
		text("text", &rec.Text)
		if rec.HasPair = columns.has(s, r.fields, "text_pair"); rec.HasPair {
			text("text_pair", &rec.Pair)
		}
		if v := get("label"); e == nil {
			rec.Classes, rec.Many, e = classes(columns.column(s, r.fields, "label"), v)
		}
	case Tagged:
		words := func(field string, dst *[]string) {
			if v := get(field); e == nil {
				*dst, e = wordList(columns.column(s, r.fields, field), v)
			}
		}
		words("tokens", &rec.Words)
		words("tags", &rec.Tags)
		if e == nil && len(rec.Words) != len(rec.Tags) {
			e = &LineError{Found: fmt.Sprintf("%d tokens and %d tags", len(rec.Words), len(rec.Tags)), Want: "a tag for each token"}
		}
	case Pairs:
		text("source", &rec.Source)
		text("target", &rec.Target)
	}
	return rec, e
}

// has reports whether a field is mapped or in the record.
func (c Columns) has(s *shape, fields map[string]any, field string) bool {
	column := c.column(s, fields, field)
	_, ok := fields[column]
	return ok || strings.ContainsAny(column, "{}")
}

// classes reads the label of a text: a name or number, or a list of them.
func classes(column string, v any) (out []string, many bool, e *LineError) {
	if items, ok := listOf(v); ok {
		for i, it := range items {
			s, ok := className(it)
			if !ok {
				return nil, true, &LineError{Found: fmt.Sprintf("%s[%d] is %s", column, i, jsonType(it)), Want: "a name or a number"}
			}
			out = append(out, s)
		}
		return out, true, nil
	}
	s, ok := className(v)
	if !ok {
		return nil, false, &LineError{Found: fmt.Sprintf("%q is %s", column, jsonType(v)), Want: "a name, a number, or a list of them"}
	}
	return []string{s}, false, nil
}

// className writes a label as text: 1 and "1" are the same.
func className(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		s := strings.TrimSpace(x)
		return s, s != ""
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), true
	case int64:
		return strconv.FormatInt(x, 10), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// wordList reads a list of words or numbers, or a text with white space between.
func wordList(column string, v any) ([]string, *LineError) {
	if s, ok := v.(string); ok {
		return strings.Fields(s), nil
	}
	items, ok := listOf(v)
	if !ok {
		return nil, &LineError{Found: fmt.Sprintf("%q is %s", column, jsonType(v)), Want: "a list of words"}
	}
	out := make([]string, len(items))
	for i, it := range items {
		if s, ok := it.(string); ok {
			out[i] = s
		} else if out[i], ok = className(it); !ok {
			return nil, &LineError{Found: fmt.Sprintf("%s[%d] is %s", column, i, jsonType(it)), Want: "a word or a number"}
		}
	}
	return out, nil
}

// roles maps ShareGPT's names of speakers to roles.
var roles = map[string]string{
	"human": "user", "user": "user",
	"gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
	"system": "system",
}

// messages reads a list of {"role", "content"} or {"from", "value"}.
func messages(field string, v any) ([]Message, *LineError) {
	items, ok := listOf(v)
	if !ok {
		return nil, &LineError{Found: fmt.Sprintf("%q is %s", field, jsonType(v)), Want: `a list of {"role": ..., "content": ...}`}
	}
	if len(items) == 0 {
		return nil, &LineError{Found: fmt.Sprintf("%q is an empty list", field), Want: "at least one message"}
	}
	var out []Message
	for i, it := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		m, ok := dictOf(it)
		if !ok {
			return nil, &LineError{Found: at + " is " + jsonType(it), Want: "an object"}
		}
		if calls, ok := listOf(m["tool_calls"]); ok && len(calls) > 0 {
			return nil, &LineError{Found: at + " calls tools", Want: "messages of text; write the call into content as the model should produce it"}
		}
		role, hasRole := m["role"].(string)
		content := m["content"]
		if from, ok := m["from"].(string); ok && !hasRole {
			if role = roles[strings.ToLower(from)]; role == "" {
				return nil, &LineError{Found: fmt.Sprintf("%s is from %q", at, from), Want: "human, gpt or system"}
			}
			hasRole, content = true, m["value"]
		}
		if !hasRole || role == "" {
			return nil, &LineError{Found: at + " has " + columnList(m), Want: "role and content, or from and value"}
		}
		str, ok := contentText(content)
		if !ok {
			return nil, &LineError{Found: at + ": the content is " + jsonType(content), Want: `a string, or a list of {"type": "text", "text": ...}`}
		}
		out = append(out, Message{Role: role, Content: str})
	}
	return out, nil
}

// contentText returns the text of a message: a string, or text parts joined.
func contentText(v any) (string, bool) {
	if s, ok := v.(string); ok {
		return s, true
	}
	parts, ok := listOf(v)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for _, p := range parts {
		m, _ := dictOf(p)
		s, ok := m["text"].(string)
		if !ok || m["type"] != "text" {
			return "", false
		}
		b.WriteString(s)
	}
	return b.String(), true
}

// listOf returns the items of a list.
func listOf(v any) ([]any, bool) {
	if l, ok := v.(*jinja.List); ok {
		return l.Items, true
	}
	return nil, false
}

// dictOf returns the entries of an object.
func dictOf(v any) (map[string]any, bool) {
	d, ok := v.(*jinja.Dict)
	if !ok {
		return nil, false
	}
	out := map[string]any{}
	for _, k := range d.Keys() {
		out[fmt.Sprint(k)], _ = d.Get(k)
	}
	return out, true
}
