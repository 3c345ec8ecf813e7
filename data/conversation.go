package data

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/tokenizer/chat"
	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// talk is a record as a chat template renders it, with what each message counts.
type talk struct {
	chat.Conversation
	weights []float32
	columns []string // where each message comes from, "" for what was put together
	context int      // of the first messages none is trained
}

func (t *talk) add(m Message, weight float32, column string) {
	t.Messages, t.weights, t.columns = append(t.Messages, m), append(t.weights, weight), append(t.columns, column)
}

// conversation puts together what a template renders of a record: the system message,
// the turns before, and the record's own.
func (e *encoder) conversation(r *Record) (*talk, *LineError) {
	t := &talk{Conversation: chat.Conversation{Tools: r.Tools, Documents: r.Documents, Kwargs: r.Kwargs}}
	given := -1
	for _, at := range []int{0, r.history} { // what the history begins with, or the record
		if given < 0 && at < len(r.Messages) && r.Messages[at].Role == "system" {
			given = at
		}
	}
	switch {
	case given >= 0 && r.System != "" && r.Messages[given].Content != r.System:
		return nil, &LineError{Found: fmt.Sprintf("the system column says %s, the first message %s", excerpt([]byte(r.System)), excerpt([]byte(r.Messages[given].Content))), Want: "one of them", Err: ErrFields}
	case given >= 0:
		t.add(r.Messages[given], r.weight(given), r.column(given))
	case r.System != "":
		t.add(Message{Role: "system", Content: r.System}, 1, "")
	}
	for i := range r.Messages {
		if i == r.Context {
			t.context = len(t.Messages)
		}
		if i != given {
			t.add(r.Messages[i], r.weight(i), r.column(i))
		}
	}
	switch r.Kind {
	case Completion:
		if !r.spoken() {
			t.add(Message{Role: "user", Content: r.Prompt}, 1, "")
			t.add(Message{Role: "assistant", Content: r.Completion}, 1, "")
		}
	case Instruction:
		question := r.Instruction
		if r.Input != "" {
			question += "\n" + r.Input
		}
		t.add(Message{Role: "user", Content: question}, 1, "")
		t.add(Message{Role: "assistant", Content: r.Output}, 1, "")
	}
	return t, e.suit(t)
}

// weight returns how much a message counts.
func (r *Record) weight(i int) float32 {
	if r.Weights == nil {
		return 1
	}
	return r.Weights[i]
}

// column returns where a message stood, "" for a record that was not read from a file.
func (r *Record) column(i int) string {
	if i < len(r.columns) {
		return r.columns[i]
	}
	return ""
}

// suit gives messages the names that the template has for what they hold, and refuses
// what it has no place for.
func (e *encoder) suit(t *talk) *LineError {
	const want = "a model, or a --chat-template, that knows tools"
	tools := e.tmpl.Mentions("tools") || e.tmpl.Mentions("tool_calls")
	if t.Tools != nil && !e.tmpl.Mentions("tools") {
		return &LineError{Found: "no place for the tools of the record", Want: want, Err: ErrTemplate}
	}
	for i := range t.Messages {
		m := &t.Messages[i]
		if items, _ := listOf(m.Field("tool_calls")); len(items) > 0 && !e.tmpl.Mentions("tool_calls") {
			return &LineError{Found: fmt.Sprintf("no place for the tool calls of message %d", i), Want: want, Err: ErrTemplate}
		}
		name, known := e.roleName(m.Role, tools)
		switch {
		case !known && name == "tool":
			return &LineError{Found: fmt.Sprintf("no place for message %d, the answer of a tool", i), Want: want, Err: ErrTemplate}
		case !known:
			return &LineError{Found: fmt.Sprintf("message %d has the role %s", i, excerpt([]byte(m.Role))), Want: "system, user, assistant or tool: the model's chat template knows no other", Err: ErrFields}
		case name != m.Role:
			m.Role = name
			setField(m, "role", name)
		}
		if _, parts := listOf(m.Field("content")); parts && !e.knowsParts(name) {
			setField(m, "content", m.Content)
		}
	}
	return nil
}

// setField changes a field of a message that has fields, and no other message.
func setField(m *Message, name string, v any) {
	if m.Fields != nil {
		m.Fields = m.Fields.Clone()
		_ = m.Fields.Set(name, v) // a string is a key
	}
}

// roleName returns what the template calls a role. tools says that it knows tools.
func (e *encoder) roleName(role string, tools bool) (name string, known bool) {
	switch role {
	case "system", "user", "assistant":
		return role, true
	case "developer":
		if !e.tmpl.Mentions(role) {
			return "system", true
		}
		return role, true
	case "tool", "ipython", "function":
		// "function" is in every template that knows tools, as an attribute.
		for _, r := range []string{role, "tool", "observation", "ipython"} {
			if r != "function" && e.tmpl.Mentions(r) {
				return r, true
			}
		}
		return "tool", tools
	}
	return role, e.tmpl.Mentions(role)
}

// knowsParts reports whether the template writes a content in parts as a text, and not
// as the list that it is.
func (e *encoder) knowsParts(role string) bool {
	known, asked := e.parts[role]
	if asked {
		return known
	}
	const text = "\uFDD2"
	part := dict("type", "text", "text", text)
	m := Message{Role: role, Content: text, Fields: dict("role", role, "content", jinja.NewList(part, part))}
	talk := chat.Talk(m)
	if role != "user" {
		talk = chat.Talk(Message{Role: "user", Content: "?"}, m)
	}
	if role == "system" {
		talk = chat.Talk(m, Message{Role: "user", Content: "?"})
	}
	out, err := e.tmpl.Render(talk, false)
	known = err == nil && strings.Count(out, text) == 2 && !strings.Contains(out, "'type'") && !strings.Contains(out, `"type"`)
	e.parts[role] = known
	return known
}

// chat renders a record by the template and says what of it is trained.
func (e *encoder) chat(r *Record) (res result, err error) {
	if e.tmpl == nil {
		return result{}, errNoTemplate
	}
	t, wrong := e.conversation(r)
	if wrong != nil {
		return result{}, wrong
	}
	whole, err := e.tmpl.Render(&t.Conversation, false)
	if err != nil {
		return result{}, err
	}
	for i := range t.Messages {
		if e.tmpl.Shows(&t.Conversation, whole, i) {
			continue
		}
		if t.Messages[i].Role != "assistant" {
			return result{}, &LineError{Found: fmt.Sprintf("the text of message %d (%s) is left out of the chat", i, t.Messages[i].Role), Want: "messages that the model's chat template has a place for", Err: ErrTemplate}
		}
		res.unsaid++
	}
	if e.o.TrainOn == Everything {
		ex, err := e.everything(t, whole)
		res.examples = []Example{ex}
		return res, err
	}
	last := -1
	for i, m := range t.Messages {
		if m.Role == "assistant" {
			last = i
		}
	}
	trained := func(i int) bool {
		return i >= t.context && t.weights[i] > 0 && (i == last || e.o.TrainOn != LastAnswer)
	}
	seqs, err := e.tmpl.Sequences(&t.Conversation, trained)
	if err != nil {
		return result{}, err
	}
	for _, s := range seqs {
		ex, spaced, merged := e.answers(t, &s)
		res.spaced, res.merged = res.spaced || spaced, res.merged || merged
		res.examples = append(res.examples, ex)
	}
	return res, nil
}

// answers tokenizes a text and labels the answers in it.
func (e *encoder) answers(t *talk, s *chat.Sequence) (ex Example, spaced, merged bool) {
	ids := e.o.Tokenizer.Encode(s.Text, false) // the template writes BOS itself
	ex = Example{Tokens: ids}
	var spans []span
	for _, a := range s.Answers {
		start, split := e.tokenAt(s.Text, a.Start, ids)
		end, cut := e.tokenAt(s.Text, a.End, ids)
		if cut {
			end++ // a token that begins in the answer belongs to it
		}
		at := span{start, min(end, len(ids)), t.weights[a.Message]}
		if split {
			ended := t.Messages[a.Message-min(1, a.Message)].Content
			spaced, merged = spaced || strings.HasSuffix(ended, " "), true
		}
		spans = append(spans, at)
	}
	ex.label(spans)
	return ex, spaced, merged
}

// everything labels the whole text but for the messages that are not to be trained.
func (e *encoder) everything(t *talk, text string) (Example, error) {
	ids := e.o.Tokenizer.Encode(text, false)
	spans := []span{{0, len(ids), 1}}
	for i, w := range t.weights {
		if w == 1 {
			continue
		}
		start, end, err := e.tmpl.Turn(&t.Conversation, text, i)
		if err != nil {
			return Example{}, err
		}
		first, _ := e.tokenAt(text, start, ids)
		behind, _ := e.tokenAt(text, end, ids)
		spans = append(spans, span{first, behind, w})
	}
	ex := Example{Tokens: ids}
	ex.label(spans)
	ex.TrainFirst = len(ids) > 0 && !slices.ContainsFunc(spans[1:], func(s span) bool { return s.start == 0 && s.end > 0 })
	return ex, nil
}

// at adds the place to an error of a record.
func (r *Record) at(err error) error {
	var line *LineError
	if !errors.As(err, &line) {
		line = &LineError{Err: &templateError{err}}
		if errors.Is(err, errNoTemplate) {
			line.Err = &templateError{errNoTemplate}
		}
	}
	line.File, line.Line = r.File, r.Line
	return line
}
