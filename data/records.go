package data

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// Records reads a file without tokenizing it. names are the columns of a .csv or
// .tsv file that has no header line. The kind is that of the first record; all
// others must have the same fields. unused lists columns that were not looked at.
func Records(file string, columns Columns, names []string) (records []Record, unused []string, err error) {
	return TaskRecords(file, model.CausalLM, columns, names)
}

// TaskRecords is Records for a task.
func TaskRecords(file string, task model.Task, columns Columns, names []string) (records []Record, unused []string, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	return parseRecords(file, content, task, columns, names, false)
}

// Parse is Records for a file that is in memory; the name tells its type.
func Parse(file string, content []byte, columns Columns, names []string) (records []Record, unused []string, err error) {
	return parseRecords(file, content, model.CausalLM, columns, names, false)
}

// parseRecords reads also which task each record is of when tasks is set.
func parseRecords(file string, content []byte, task model.Task, columns Columns, names []string, tasks bool) (records []Record, unused []string, err error) {
	if err := columns.validate(task); err != nil {
		return nil, nil, err
	}
	bad := &LineErrors{}
	rows, err := readRows(file, content, names, bad)
	if err != nil {
		return nil, nil, err
	}
	if len(rows) == 0 && bad.Total == 0 {
		return nil, nil, fmt.Errorf("%s: %w: no records", file, ErrEmpty)
	}
	var s *shape
	var first int
	seen, used := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		for name := range r.fields {
			seen[name] = true
		}
		if s == nil {
			if s, first = columns.detect(r.fields, task), r.line; s == nil {
				bad.add(&LineError{File: file, Line: r.line, Found: columnList(r.fields), Want: expected[task] + "; name the columns with a column map (" + mapExample[task] + ")", Err: ErrFields})
				break
			}
		}
		rec, e := record(r, s, columns, used)
		if e == nil && tasks {
			rec.Task, e = taskName(r, s, columns, used)
		}
		if e != nil {
			e.File, e.Line, e.Err = file, r.line, ErrFields
			if r.line != first && e.Want == "" {
				e.Want = fmt.Sprintf("%s as in line %d", strings.Join(s.required, " and "), first)
			}
			bad.add(e)
			continue
		}
		rec.File, rec.Line = file, r.line
		records = append(records, rec)
	}
	if err := bad.orNil(); err != nil {
		return nil, nil, err
	}
	maps.DeleteFunc(seen, func(name string, _ bool) bool { return used[name] })
	return records, slices.Sorted(maps.Keys(seen)), nil
}

// record takes the fields of one row. Its error lacks the place.
func record(r row, s *shape, columns Columns, used map[string]bool) (rec Record, e *LineError) {
	rec.Kind = s.kind
	get := func(field string) any {
		v, missing := columns.value(s, r.fields, field, used)
		if missing != "" && slices.Contains(s.required, field) && e == nil {
			e = &LineError{Found: columnList(r.fields) + fmt.Sprintf(", no %q", missing)}
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
		_, pl := get("prompt").([]any)
		_, cl := get("completion").([]any)
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

// mapExample is a column map as people would write it.
var mapExample = map[model.Task]string{
	model.CausalLM:               "prompt=question,completion=answer",
	model.SequenceClassification: "text=review,label=stars",
	model.TokenClassification:    "tokens=words,tags=entities",
	model.Seq2SeqLM:              "source=question,target=answer",
}

// has reports whether a field is mapped or in the record.
func (c Columns) has(s *shape, fields map[string]any, field string) bool {
	column := c.column(s, fields, field)
	_, ok := fields[column]
	return ok || strings.ContainsAny(column, "{}")
}

// classes reads the label of a text: a name or number, or a list of them.
func classes(column string, v any) (out []string, many bool, e *LineError) {
	if items, ok := v.([]any); ok {
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
	items, ok := v.([]any)
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
	items, ok := v.([]any)
	if !ok {
		return nil, &LineError{Found: fmt.Sprintf("%q is %s", field, jsonType(v)), Want: `a list of {"role": ..., "content": ...}`}
	}
	if len(items) == 0 {
		return nil, &LineError{Found: fmt.Sprintf("%q is an empty list", field), Want: "at least one message"}
	}
	var out []Message
	for i, it := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		m, ok := it.(map[string]any)
		if !ok {
			return nil, &LineError{Found: at + " is " + jsonType(it), Want: "an object"}
		}
		if calls, ok := m["tool_calls"].([]any); ok && len(calls) > 0 {
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
	parts, ok := v.([]any)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for _, p := range parts {
		m, _ := p.(map[string]any)
		s, ok := m["text"].(string)
		if !ok || m["type"] != "text" {
			return "", false
		}
		b.WriteString(s)
	}
	return b.String(), true
}
