package data

import (
	"fmt"
	"maps"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// unreadTries is how many records with a field are looked at before it is called unused.
const unreadTries = 8

// unread lists the fields of messages, and of what stands beside them, that change
// nothing in what is trained: without them the chat template writes the same texts.
func unread(records []Record, o Options) ([]string, error) {
	out := map[string]bool{}
	for i := range records {
		for _, path := range records[i].unread {
			out[path] = true
		}
	}
	if o.Task != model.CausalLM || !slices.ContainsFunc(records, func(r Record) bool { return r.extras() }) {
		return slices.Sorted(maps.Keys(out)), nil
	}
	e, err := newEncoder(o)
	if err != nil || e.tmpl == nil {
		return nil, err
	}
	tries := map[string]int{} // negative for a field that is used
	for i := range records {
		if r := &records[i]; r.extras() {
			e.tryFields(r, tries)
		}
	}
	for path, n := range tries {
		if n > 0 && !out[parent(path, tries)] {
			out[path] = true
		}
	}
	return slices.Sorted(maps.Keys(out)), nil
}

// extras reports whether the record has more than roles and texts.
func (r *Record) extras() bool {
	return r.Tools != nil || r.Documents != nil || r.Kwargs != nil || slices.ContainsFunc(r.Messages, func(m Message) bool { return m.Fields != nil })
}

// parent is the path of an unused field that a path lies in, "" for none.
func parent(path string, tries map[string]int) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			if tries[path[:i]] > 0 {
				return path[:i]
			}
		}
	}
	return ""
}

// tryFields counts for each field of a record that it changes nothing.
func (e *encoder) tryFields(r *Record, tries map[string]int) {
	t, wrong := e.conversation(r)
	if wrong != nil {
		return // told when the record is encoded
	}
	var texts []string
	try := func(path string, change func(t *talk)) (used bool) {
		if n := tries[path]; n < 0 || n >= unreadTries {
			return n < 0
		}
		if texts == nil {
			texts = e.textsOf(t)
		}
		other := *t
		other.Messages = slices.Clone(t.Messages)
		change(&other)
		if slices.Equal(texts, e.textsOf(&other)) {
			tries[path]++
			return false
		}
		tries[path] = -1
		return true
	}
	if t.Documents != nil {
		try("documents", func(t *talk) { t.Documents = nil })
	}
	if t.Tools != nil {
		try("tools", func(t *talk) { t.Tools = nil })
	}
	if t.Kwargs != nil {
		for _, k := range t.Kwargs.Keys() {
			try(fmt.Sprintf("chat_template_kwargs.%v", k), func(t *talk) { t.Kwargs = without(t.Kwargs, k) })
		}
	}
	for i := range t.Messages {
		m := &t.Messages[i]
		if m.Fields == nil || t.columns[i] == "" {
			continue
		}
		for _, k := range m.Fields.Keys() {
			v, _ := m.Fields.Get(k)
			if k == "role" || k == "content" || empty(v) {
				continue
			}
			path := fmt.Sprintf("%s[].%v", t.columns[i], k)
			used := try(path, func(t *talk) { t.Messages[i].Fields = without(t.Messages[i].Fields, k) })
			calls, _ := listOf(v)
			for n, call := range calls {
				d, ok := call.(*jinja.Dict)
				if !ok || !used {
					continue
				}
				for _, key := range d.Keys() {
					if v, _ := d.Get(key); empty(v) || key == "function" {
						continue
					}
					try(fmt.Sprintf("%s[].%v", path, key), func(t *talk) {
						list := jinja.NewList(slices.Clone(calls)...)
						list.Items[n] = without(d, key)
						t.Messages[i].Fields = t.Messages[i].Fields.Clone()
						_ = t.Messages[i].Fields.Set(k, list) // it is a key of it
					})
				}
			}
		}
	}
}

// textsOf are the texts of a conversation, errors included.
func (e *encoder) textsOf(t *talk) []string {
	seqs, err := e.tmpl.Sequences(&t.Conversation, func(int) bool { return true })
	if err != nil {
		whole, err := e.tmpl.Render(&t.Conversation, false)
		return []string{whole, fmt.Sprint(err)}
	}
	var out []string
	for _, s := range seqs {
		out = append(out, s.Text)
	}
	return out
}

// without is a dictionary without a key.
func without(d *jinja.Dict, key any) *jinja.Dict {
	out := jinja.NewDict()
	for _, k := range d.Keys() {
		if v, _ := d.Get(k); k != key {
			_ = out.Set(k, v) // it is a key
		}
	}
	return out
}
