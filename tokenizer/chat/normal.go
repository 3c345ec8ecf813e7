package chat

import "github.com/peftkit/peftkit/tokenizer/chat/jinja"

// plain is a message as transformers hands it to a template. Keys without a value
// (a content of null beside tool calls) are left out, since templates ask whether a
// key is there; and a thought is found under reasoning_content, whatever the data
// set calls it, and under thinking.
func (m *Message) plain() *jinja.Dict {
	out := jinja.NewDict()
	set := func(k, v any) { _ = out.Set(k, v) } // a key of a dictionary is a key
	if m.Fields == nil {
		set("role", m.Role)
		set("content", m.Content)
		return out
	}
	var thought any
	for _, name := range Thoughts {
		if thought = m.Field(name); thought != nil {
			set("thinking", thought)
			break
		}
	}
	for _, k := range m.Fields.Keys() {
		if v, _ := m.Fields.Get(k); v != nil {
			set(k, v)
		}
	}
	if thought != nil {
		set("reasoning_content", thought)
	}
	return out
}
