package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/tokenizer/chat"
	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// roles are the names that data sets have for the three roles of a chat and for the
// answers of tools, in lower case.
var roles = map[string]string{
	"system": "system",
	"user":   "user", "human": "user", "prompter": "user",
	"assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "ai": "assistant",
	"chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
	"tool": "tool", "observation": "tool", "tool_response": "tool",
	// A turn that is a call of a tool, as LLaMA-Factory and ms-swift write it.
	"function_call": calls, "tool_call": calls,
}

// calls marks a turn of the assistant whose text is the JSON of its tool calls.
const calls = "function_call"

// listOf returns the items of a list.
func listOf(v any) ([]any, bool) {
	if l, ok := v.(*jinja.List); ok {
		return l.Items, true
	}
	return nil, false
}

// listIn is listOf for columns that hold a list or the JSON text of one, as tables do.
func listIn(v any) ([]any, bool) {
	text, ok := v.(string)
	if !ok {
		return listOf(v)
	}
	if text = strings.TrimSpace(text); !strings.HasPrefix(text, "[") {
		return nil, false
	}
	list, err := jinja.FromJSON([]byte(text))
	if err != nil {
		return nil, false
	}
	return listOf(list)
}

// messagesIn is listIn for a list of messages.
func messagesIn(v any) ([]any, bool) {
	items, ok := listIn(v)
	if _, text := v.(string); !text || !ok {
		return items, ok
	}
	for _, it := range items {
		d, _ := it.(*jinja.Dict)
		if d == nil || field(d, "role") == nil && field(d, "from") == nil {
			return nil, false // a text that happens to be a list
		}
	}
	return items, len(items) > 0
}

// field returns a value of a dictionary, nil when it has none of the name.
func field(d *jinja.Dict, name string) any {
	v, _ := d.Get(name)
	return v
}

// addMessages appends the messages of a column.
func (rec *Record) addMessages(column string, v any) *LineError {
	items, ok := messagesIn(v)
	if !ok {
		found := fmt.Sprintf("%q is %s", column, jsonType(v))
		if text, is := v.(string); is && strings.HasPrefix(strings.TrimSpace(text), "[") {
			if _, err := jinja.FromJSON([]byte(text)); err != nil {
				found += fmt.Sprintf(" that is no JSON (%v)", err)
			}
		}
		return &LineError{Found: found, Want: "a list of messages"}
	}
	if len(items) == 0 {
		return &LineError{Found: fmt.Sprintf("%q is an empty list", column), Want: "messages"}
	}
	for i, it := range items {
		m, err := readMessage(it)
		if err != nil {
			err.Found = fmt.Sprintf("%s[%d]%s", column, i, err.Found)
			return err
		}
		rec.add(m, column)
	}
	return nil
}

// add appends a message and what belongs to it.
func (rec *Record) add(m *message, column string) {
	rec.Messages = append(rec.Messages, m.Message)
	rec.columns = append(rec.columns, column)
	if m.weight != 1 && rec.Weights == nil {
		rec.Weights = slices.Repeat([]float32{1}, len(rec.Messages)-1)
	}
	if rec.Weights != nil {
		rec.Weights = append(rec.Weights, m.weight)
	}
	for _, key := range m.unread {
		rec.unread = append(rec.unread, column+"[]."+key)
	}
}

// message is one that was read.
type message struct {
	Message
	weight float32
	// unread are the keys of its parts that have no meaning.
	unread []string
}

// readMessage reads a message of any of the forms that data sets have: role and
// content, or from and value. The error lacks the place.
func readMessage(v any) (*message, *LineError) {
	d, ok := v.(*jinja.Dict)
	if !ok {
		return nil, &LineError{Found: " is " + jsonType(v), Want: "an object with role and content"}
	}
	roleKey, textKey := "role", "content"
	if field(d, "role") == nil && field(d, "from") != nil {
		roleKey, textKey = "from", "value"
		if field(d, textKey) == nil && field(d, "content") != nil {
			textKey = "content"
		}
	}
	name, ok := field(d, roleKey).(string)
	if !ok {
		return nil, &LineError{Found: " has " + keyList(d), Want: "role and content"}
	}
	for _, key := range []string{"function_call", "train_detail"} {
		if field(d, key) != nil {
			return nil, &LineError{Found: " has " + key, Want: refusedKeys[key]}
		}
	}
	m := &message{Message: Message{Role: role(name)}, weight: 1}
	content := field(d, textKey)
	if parts, ok := listOf(content); ok {
		text, unread, err := joinParts(parts)
		if err != nil {
			return nil, err
		}
		m.Content, m.unread = text, unread
	} else if s, ok := content.(string); ok {
		m.Content = s
	} else if content != nil || !speaksOtherwise(d) {
		return nil, &LineError{Found: ": the content is " + jsonType(content), Want: "a string"}
	}
	var err *LineError
	if m.weight, err = weightOf(d, m.Role == "assistant" || m.Role == calls); err != nil {
		return nil, err
	}
	m.setFields(d, roleKey, textKey)
	if m.Role == calls {
		return m, m.readCalls()
	}
	return m, nil
}

// refusedKeys are keys of messages that say something about the training or the chat
// that is not done, and what to write instead.
var refusedKeys = map[string]string{
	"function_call": "tool_calls: [{\"type\": \"function\", \"function\": {\"name\": ..., \"arguments\": {...}}}]",
	"train_detail":  "weight or train for the whole message: parts of a message cannot be left out",
}

// role returns the usual name of a role. One that is not known stays as it is: a
// template may have it.
func role(name string) string {
	name = strings.TrimSpace(name)
	if r, ok := roles[strings.ToLower(name)]; ok {
		return r
	}
	return name
}

// speaksOtherwise reports whether a message without a text says something.
func speaksOtherwise(d *jinja.Dict) bool {
	if items, _ := listOf(field(d, "tool_calls")); len(items) > 0 {
		return true
	}
	return slices.ContainsFunc(chat.Thoughts, func(name string) bool { return field(d, name) != nil })
}

// joinParts returns the text of a content in parts.
func joinParts(parts []any) (text string, unread []string, e *LineError) {
	var b strings.Builder
	for i, p := range parts {
		if s, ok := p.(string); ok {
			b.WriteString(s)
			continue
		}
		d, ok := p.(*jinja.Dict)
		if !ok {
			return "", nil, &LineError{Found: fmt.Sprintf(": content[%d] is %s", i, jsonType(p)), Want: "text"}
		}
		s, ok := field(d, "text").(string)
		if kind := field(d, "type"); !ok || kind != nil && kind != "text" {
			return "", nil, &LineError{Found: fmt.Sprintf(": the content is a list in which [%d] is of type %s", i, oneLine(kind)), Want: "text alone: pictures and sounds are not read"}
		}
		b.WriteString(s)
		for _, k := range d.Keys() {
			if v, _ := d.Get(k); k != "type" && k != "text" && !empty(v) {
				unread = append(unread, fmt.Sprintf("content[].%v", k))
			}
		}
	}
	return b.String(), unread, nil
}

// setFields keeps the message as the file has it where it is more than a role and a
// text.
func (m *message) setFields(d *jinja.Dict, roleKey, textKey string) {
	fields, plain := jinja.NewDict(), true
	set := func(k, v any) { _ = fields.Set(k, v) } // a key of a dictionary is a key
	for _, k := range d.Keys() {
		v, _ := d.Get(k)
		switch {
		case k == roleKey:
			set("role", m.Role)
		case k == textKey:
			_, text := v.(string)
			plain = plain && text
			set("content", v)
		case slices.Contains(weightKeys, fmt.Sprint(k)):
		default:
			plain = false
			set(k, v)
		}
	}
	if !plain {
		m.Fields = fields
	}
}

// readCalls turns a turn whose text is the JSON of tool calls into one that has them.
func (m *message) readCalls() *LineError {
	bad := &LineError{Found: ": the function call is " + excerpt([]byte(m.Content)), Want: `JSON of the form {"name": ..., "arguments": {...}}, or a list of these`}
	v, err := jinja.FromJSON([]byte(m.Content))
	if err != nil {
		return bad
	}
	items, ok := listOf(v)
	if !ok {
		items = []any{v}
	}
	list := jinja.NewList()
	for _, it := range items {
		d, ok := it.(*jinja.Dict)
		if !ok {
			return bad
		}
		if f, ok := field(d, "function").(*jinja.Dict); ok {
			d = f
		}
		if _, ok := field(d, "name").(string); !ok {
			return bad
		}
		list.Items = append(list.Items, dict("type", "function", "function", d))
	}
	m.Role, m.Content = "assistant", ""
	more := m.Fields
	m.Fields = dict("role", "assistant", "content", "", "tool_calls", list)
	if more == nil {
		return nil
	}
	for _, k := range more.Keys() {
		if k != "role" && k != "content" {
			_ = m.Fields.Set(k, field(more, fmt.Sprint(k)))
		}
	}
	return nil
}

// dict makes a dictionary of keys and values.
func dict(kv ...any) *jinja.Dict {
	d := jinja.NewDict()
	for i := 0; i < len(kv); i += 2 {
		_ = d.Set(kv[i], kv[i+1]) // the keys are strings
	}
	return d
}

// empty reports a value that says nothing.
func empty(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case string:
		return strings.TrimSpace(x) == ""
	case *jinja.List:
		return len(x.Items) == 0
	case *jinja.Dict:
		return x.Len() == 0
	}
	return false
}

// keyList names the keys of a message for an error.
func keyList(d *jinja.Dict) string {
	fields := map[string]any{}
	for _, k := range d.Keys() {
		fields[fmt.Sprint(k)] = nil
	}
	return columnList(fields)
}

// oneLine writes a value of a file on one line for an error.
func oneLine(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case string:
		return excerpt([]byte(x))
	case int64, float64, bool:
		return fmt.Sprint(x)
	}
	return jsonType(v)
}
