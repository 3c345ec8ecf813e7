package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	list := func(field string) {
		v := get(field)
		if e == nil {
			e = rec.addMessages(columns.column(s, r.fields, field), v)
		}
	}
	if slices.Contains(s.optional, "system") {
		text("system", &rec.System)
		if e == nil {
			e = rec.readAround(get)
		}
	}
	switch s.kind {
	case Chat:
		list("messages")
	case ShareGPT:
		list("conversations")
	case Completion:
		_, pl := messagesIn(get("prompt"))
		_, cl := messagesIn(get("completion"))
		if pl && cl {
			list("prompt")
			rec.Context = len(rec.Messages)
			list("completion")
			break
		}
		text("prompt", &rec.Prompt)
		text("completion", &rec.Completion)
	case Instruction:
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
	items, ok := listOf(v)
	if s, text := v.(string); text && !ok {
		return strings.Fields(s), nil
	}
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

// markChats says of records in plain strings whether they have to be chats, one as all.
func markChats(records []Record) {
	plain := func(r *Record) bool { return r.Kind == Completion && !r.spoken() || r.Kind == Instruction }
	chats := slices.ContainsFunc(records, func(r Record) bool {
		return plain(&r) && (r.System != "" && r.Kind == Completion || r.history > 0 || r.Tools != nil)
	})
	for i := range records {
		r := &records[i]
		if r.Chat = chats; chats || !plain(r) || r.Kind == Instruction { // an instruction is a chat where the model has a template
			continue
		}
		if r.Documents != nil {
			r.unread = append(r.unread, "documents")
		}
		if r.Kwargs != nil {
			r.unread = append(r.unread, "chat_template_kwargs")
		}
	}
}
