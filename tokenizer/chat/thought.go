package chat

import (
	"strings"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// Thoughts are the fields of a message that hold what the model thought before it
// answered, as templates and data sets call them.
var Thoughts = []string{"reasoning_content", "thinking", "reasoning"}

// thoughtTag is how a family of models encloses its thoughts: <opener>thought,
// last, <closer>, gap and the answer.
type thoughtTag struct{ opener, closer, last, gap string }

var thoughtTags = []thoughtTag{
	{"<think>", "</think>", "\n", "\n\n"},
	{"[THINK]", "[/THINK]", "", ""},
	{"<seed:think>", "</seed:think>", "", ""},
	{"<|START_THINKING|>", "<|END_THINKING|>", "", ""},
	{"<|channel>thought", "<channel|>", "", ""},
	{"<think:opensource>", "</think:opensource>", "", ""},
	{"<|inner_prefix|>", "<|inner_suffix|>", "", ""},
}

// thoughtIn returns the kind of thought that a generation prompt opens, and where.
// A prompt that only ends one counts as well.
func thoughtIn(header string) (*thoughtTag, int, bool) {
	for i := range thoughtTags {
		tag := &thoughtTags[i]
		if at := strings.LastIndex(header, tag.opener); at >= 0 {
			return tag, at, true
		}
		if at := strings.LastIndex(header, tag.closer); at >= 0 {
			return tag, at, true
		}
	}
	return nil, 0, false
}

// thought returns the thought of a message and what of its content is the answer.
func (m *Message) thought(tag *thoughtTag) (thought, shown string) {
	shown = strings.TrimSpace(m.Content)
	for _, name := range Thoughts {
		if s, ok := m.Field(name).(string); ok && s != "" {
			return strings.Trim(s, "\n"), shown
		}
	}
	if before, after, ok := strings.Cut(m.Content, tag.closer); ok {
		return strings.Trim(strings.TrimPrefix(strings.TrimLeft(before, "\n"), tag.opener), "\n"), strings.TrimSpace(after)
	}
	return "", shown
}

// thinking returns the message with a thought.
func (m Message) thinking(thought string) Message {
	d := jinja.NewDict()
	if m.Fields != nil {
		d = m.Fields.Clone()
	} else {
		_ = d.Set("role", m.Role) // strings are keys
		_ = d.Set("content", m.Content)
	}
	_ = d.Set(Thoughts[0], thought)
	m.Fields = d
	return m
}
