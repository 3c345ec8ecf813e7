package chat

import (
	"fmt"
	"strings"
)

// SpanError says that the answers of a conversation cannot be found in the text
// that a template makes of it.
type SpanError struct {
	Message int // index of the assistant's message
	Reason  string
}

func (e *SpanError) Error() string {
	return fmt.Sprintf("chat template: cannot tell where the answer of message %d is: %s; train on the whole text, or use a template with {%% generation %%} blocks", e.Message, e.Reason)
}

// Spans renders a whole conversation and returns the byte ranges of the text that
// are answers of the assistant: the content and the token that ends the turn,
// which is what a model learns to write. White space that the template puts after
// that token is not part of the answer.
//
// A template with {% generation %} blocks says itself what the answers are. For
// any other the conversation is rendered turn by turn: the text up to and with
// the generation prompt ends where an answer begins, the text with the answer ends
// where it ends. This needs each of them to be a prefix of the whole, which
// is checked; a template that rewrites earlier turns gives a SpanError.
func (t *Template) Spans(msgs []Message) (text string, answers [][2]int, err error) {
	whole, err := t.render(msgs, false)
	if err != nil {
		return "", nil, err
	}
	if t.marked {
		text, answers = unmark(whole)
		return text, answers, nil
	}
	for i, m := range msgs {
		if m.Role != "assistant" {
			continue
		}
		start, end, err := t.span(msgs, i, whole)
		if err != nil {
			return "", nil, err
		}
		answers = append(answers, [2]int{start, end})
	}
	return whole, answers, nil
}

// span finds the answer of message i in the whole text.
func (t *Template) span(msgs []Message, i int, whole string) (start, end int, err error) {
	bad := func(format string, args ...any) (int, int, error) {
		return 0, 0, &SpanError{i, fmt.Sprintf(format, args...)}
	}
	with := whole
	if i+1 < len(msgs) {
		if with, err = t.render(msgs[:i+1], false); err != nil {
			return bad("the conversation up to it cannot be rendered: %v", err)
		}
	}
	if !strings.HasPrefix(whole, with) {
		return bad("what follows changes the text before (byte %d)", common(whole, with))
	}
	content := msgs[i].Content
	trimmed := strings.TrimSpace(content)
	prompt, err := t.render(msgs[:i], true)
	if err == nil && strings.HasPrefix(with, prompt) && strings.Contains(with[len(prompt):], trimmed) {
		start = len(prompt)
	} else {
		// The generation prompt is not how the answer begins: it is missing, or
		// says more. Look for the content after the turns before.
		before, err := t.render(msgs[:i], false)
		if i == 0 {
			before, err = "", nil
		}
		if err != nil || !strings.HasPrefix(with, before) {
			return bad("the turns before are no prefix of the text")
		}
		at := strings.Index(with[len(before):], content)
		if at < 0 {
			at = strings.Index(with[len(before):], trimmed)
		}
		if at < 0 || trimmed == "" {
			return bad("its content does not stand in the text")
		}
		start = len(before) + at
	}
	end = len(with)
	tail := with[start+strings.Index(with[start:], trimmed)+len(trimmed):]
	if keep := strings.TrimRight(tail, " \t\r\n"); keep != "" {
		end -= len(tail) - len(keep)
	}
	return start, end, nil
}

// common returns the length of the common prefix.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// unmark takes out the marks of generation blocks.
func unmark(s string) (string, [][2]int) {
	var b strings.Builder
	var out [][2]int
	start := -1
	for s != "" {
		i := strings.IndexAny(s, markStart+markEnd)
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		if strings.HasPrefix(s[i:], markStart) {
			start = b.Len()
		} else if start >= 0 {
			out = append(out, [2]int{start, b.Len()})
			start = -1
		}
		s = s[i+len(markStart):]
	}
	return b.String(), out
}
