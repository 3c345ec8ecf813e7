package chat

import (
	"fmt"
	"slices"
	"strconv"
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
// is checked. Where it fails, as in templates that treat the last turn in a way of
// its own, the contents are replaced by marks to see where they go. A template
// that changes the contents, too, gives a SpanError.
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
			if answers, ok := t.byMarks(msgs, whole); ok {
				return whole, answers, nil
			}
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

// byMarks finds the answers by rendering the conversation with a mark in place of
// each. It counts only if putting the contents back gives the whole text.
func (t *Template) byMarks(msgs []Message, whole string) (answers [][2]int, ok bool) {
	marked := slices.Clone(msgs)
	last := -1
	mark := func(i int) string { return markStart + strconv.Itoa(i) + markEnd }
	for i, m := range msgs {
		if strings.ContainsAny(m.Content, markStart+markEnd) {
			return nil, false
		}
		if m.Role == "assistant" {
			marked[i].Content = mark(i)
			last = i
		}
	}
	text, err1 := t.render(marked, false)
	upTo, err2 := t.render(marked[:last+1], false)
	if err1 != nil || err2 != nil {
		return nil, false
	}
	// What follows the content of a last answer is the end of a turn.
	_, end, found := strings.Cut(upTo, mark(last))
	if !found {
		return nil, false
	}
	end = strings.TrimRight(end, " \t\r\n")
	var b strings.Builder
	for i, m := range marked {
		if m.Role != "assistant" {
			continue
		}
		before, rest, found := strings.Cut(text, m.Content)
		if !found {
			return nil, false
		}
		b.WriteString(before)
		start, content := b.Len(), msgs[i].Content
		if !strings.HasPrefix(whole[min(start, len(whole)):], content+rest[:min(len(rest), 1)]) {
			content = strings.TrimSpace(content)
		}
		b.WriteString(content)
		if !strings.HasPrefix(rest, end) {
			return nil, false
		}
		answers = append(answers, [2]int{start, b.Len() + len(end)})
		text = rest
	}
	b.WriteString(text)
	return answers, b.String() == whole
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
