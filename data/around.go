package data

import (
	"fmt"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// readAround reads the columns that belong to a chat beside its messages.
func (rec *Record) readAround(get func(field string) any) *LineError {
	for _, around := range []struct {
		column string
		list   **jinja.List
		want   string
	}{
		{"tools", &rec.Tools, "a list of functions, each an object of JSON schema"},
		{"documents", &rec.Documents, "a list of documents"},
	} {
		v := get(around.column)
		if empty(v) {
			continue
		}
		items, ok := listIn(v)
		if _, text := v.(string); text && !ok && around.column == "documents" {
			rec.unread = append(rec.unread, around.column) // a column of another meaning
			continue
		}
		if !ok {
			return &LineError{Found: fmt.Sprintf("%q is %s", around.column, jsonType(v)), Want: around.want}
		}
		if len(items) > 0 {
			*around.list = jinja.NewList(items...)
		}
	}
	if v := get("chat_template_kwargs"); !empty(v) {
		if text, ok := v.(string); ok {
			v, _ = jinja.FromJSON([]byte(text))
		}
		d, ok := v.(*jinja.Dict)
		if !ok {
			return &LineError{Found: "\"chat_template_kwargs\" is " + jsonType(v), Want: "an object"}
		}
		rec.Kwargs = d
	}
	return rec.readHistory(get("history"))
}

// readHistory reads the turns before a record's own: pairs of a question and an
// answer, as in LLaMA-Factory, or messages.
func (rec *Record) readHistory(v any) *LineError {
	if empty(v) {
		return nil
	}
	items, ok := listIn(v)
	if _, text := v.(string); text && !ok {
		rec.unread = append(rec.unread, "history") // of a patient, of a town
		return nil
	}
	if !ok {
		return &LineError{Found: "\"history\" is " + jsonType(v), Want: "a list of [question, answer], or of messages"}
	}
	for i, it := range items {
		if pair, ok := listOf(it); ok {
			if len(pair) != 2 {
				return &LineError{Found: fmt.Sprintf("history[%d] has %d items", i, len(pair)), Want: "a question and its answer"}
			}
			for k, r := range []string{"user", "assistant"} {
				text, ok := pair[k].(string)
				if !ok {
					return &LineError{Found: fmt.Sprintf("history[%d][%d] is %s", i, k, jsonType(pair[k])), Want: "a string"}
				}
				rec.add(&message{Message: Message{Role: r, Content: text}, weight: 1}, "history")
			}
			continue
		}
		m, err := readMessage(it)
		if err != nil {
			err.Found = fmt.Sprintf("history[%d]%s", i, err.Found)
			return err
		}
		rec.add(m, "history")
	}
	rec.history = len(rec.Messages)
	return nil
}
