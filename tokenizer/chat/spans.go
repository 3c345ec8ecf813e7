package chat

import (
	"fmt"
	"slices"
	"strings"
)

// SpanError says that an answer of a conversation cannot be found in the text
// that a template makes of it.
type SpanError struct {
	Message int // index of the assistant's message
	Reason  string
}

func (e *SpanError) Error() string {
	return fmt.Sprintf("chat template: cannot tell what the model would have to write for message %d: %s", e.Message, e.Reason)
}

// Answer is where the answer of a message lies in a text, in bytes: what a model
// has to write after the generation prompt of that turn, the token that ends the
// turn included. White space that the template puts after that token is not part of it.
type Answer struct {
	Message    int
	Start, End int
}

// Sequence is a text to train on and the answers in it, in their order.
type Sequence struct {
	Text    string
	Answers []Answer
}

// Sequences returns the texts that teach the answers of the messages that trained
// names. Before each answer stands what the model sees when it gives it: the turns
// before, rendered as a prompt. One text serves all answers whose histories are
// beginnings of it. A template that renders earlier turns in another way than the
// last one (reasoning left out of the past, an end of its own for the last turn)
// needs several. Messages that are not trained are never looked for.
func (t *Template) Sequences(c *Conversation, trained func(message int) bool) ([]Sequence, error) {
	whole, err := t.Render(c, false)
	if err != nil {
		return nil, err
	}
	out := []Sequence{{Text: whole}} // latest first
	for i := len(c.Messages) - 1; i >= 0; i-- {
		if c.Messages[i].Role != "assistant" || !trained(i) {
			continue
		}
		text, start, end, err := t.answer(c, i)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(out, func(s Sequence) bool { return strings.HasPrefix(s.Text, text[:end]) })
		if at < 0 {
			at = len(out)
			out = append(out, Sequence{Text: text})
		}
		out[at].Answers = append(out[at].Answers, Answer{i, start, end})
	}
	if len(out[0].Answers) == 0 && len(out) > 1 {
		out = out[1:]
	}
	slices.Reverse(out)
	for _, s := range out {
		slices.Reverse(s.Answers)
	}
	return out, nil
}

// answer returns the text up to and with the answer of message i, and where in it
// the answer lies.
func (t *Template) answer(c *Conversation, i int) (text string, start, end int, err error) {
	with, err := t.Render(c.upTo(i+1), false)
	if err != nil {
		return "", 0, 0, &SpanError{i, fmt.Sprintf("the conversation up to it cannot be rendered: %v", err)}
	}
	prompt, err := t.Render(c.upTo(i), true)
	switch {
	case err == nil && strings.HasPrefix(with, prompt):
		text, start = with, len(prompt)
	case err == nil:
		s := &seam{t: t, c: c, i: i, prompt: prompt, with: with}
		tail, err := s.tail()
		if err != nil {
			return "", 0, 0, err
		}
		text, start = s.prompt+tail, len(s.prompt)
	default: // a template that refuses a conversation without this answer, or an empty one
		if start, err = t.begin(c, i); err != nil {
			return "", 0, 0, err
		}
		text = with
	}
	return text, start, start + t.answerEnd(c, i, text[start:], with), nil
}

// answerEnd returns where an answer ends: before the white space that follows the
// end of its turn. Where nothing but the content itself stands there, all of it
// counts. A template that writes a generation prompt whether it is asked to or not
// has one behind the answer too: there the token that ends a text is the last.
func (t *Template) answerEnd(c *Conversation, i int, answer, with string) int {
	content := c.Messages[i].Content
	if content != "" && strings.HasSuffix(answer, content) {
		return len(answer)
	}
	answer = strings.TrimRight(answer, " \t\r\n")
	if t.eos == "" || strings.HasSuffix(answer, t.eos) {
		return len(answer)
	}
	if asked, err := t.Render(c.upTo(i+1), true); err != nil || asked != with {
		return len(answer)
	}
	from := max(strings.LastIndex(answer, strings.TrimSpace(content)), 0) + len(strings.TrimSpace(content))
	if at := strings.LastIndex(answer[min(from, len(answer)):], t.eos); at >= 0 {
		return from + at + len(t.eos)
	}
	return len(answer)
}

// mark stands in the place of a content to see where it goes: two noncharacters,
// which no text holds.
const mark = "\uFDD0\uFDD1"

// begin finds an answer that has no prompt: by a mark in the place of its content.
func (t *Template) begin(c *Conversation, i int) (int, error) {
	marked := *c
	marked.Messages = slices.Clone(c.Messages[:i+1])
	marked.Messages[i] = marked.Messages[i].with(mark)
	text, err := t.Render(&marked, false)
	at := strings.Index(text, mark)
	if err != nil || at < 0 {
		return 0, &SpanError{i, "the turns before it cannot be rendered, and its content does not stand in the text"}
	}
	return at, nil
}

// Shows reports whether the text of a message gets into what the template writes,
// changed or not.
func (t *Template) Shows(c *Conversation, whole string, i int) bool {
	content := strings.TrimSpace(c.Messages[i].Content)
	if content == "" || strings.Contains(whole, content) {
		return true
	}
	marked := *c
	marked.Messages = slices.Clone(c.Messages)
	marked.Messages[i] = marked.Messages[i].with(mark)
	text, err := t.Render(&marked, false)
	return err != nil || strings.Contains(text, mark)
}

// Turn returns where a message of any role lies in the whole text, from the end of
// the turns before it to its own end.
func (t *Template) Turn(c *Conversation, whole string, i int) (start, end int, err error) {
	before, err := t.Render(c.upTo(i), false)
	with, err2 := t.Render(c.upTo(i+1), false)
	if i == 0 && (err != nil || !strings.HasPrefix(with, before)) {
		before, err = "", nil // not every template has a text for no messages
	}
	if err == nil && err2 == nil && strings.HasPrefix(with, before) && strings.HasPrefix(whole, with) {
		return len(before), len(with), nil
	}
	// The template writes turns of the past in another way than the last one.
	end, ok := t.endIn(c, whole, i)
	if i > 0 && ok {
		start, ok = t.endIn(c, whole, i-1)
	}
	if ok && start <= end {
		return start, end, nil
	}
	return 0, 0, &SpanError{i, "its turn cannot be told from others in the whole text"}
}

// endIn returns where the turn of a message ends in the whole text: behind its content
// comes what also stands there when it is the last message.
func (t *Template) endIn(c *Conversation, whole string, i int) (int, bool) {
	behind := func(n int) (before, after string, ok bool) {
		marked := *c
		marked.Messages = slices.Clone(c.Messages[:n])
		marked.Messages[i] = marked.Messages[i].with(mark)
		text, err := t.Render(&marked, false)
		if err != nil {
			return "", "", false
		}
		return strings.Cut(text, mark)
	}
	before, after, ok := behind(len(c.Messages))
	_, last, ok2 := behind(i + 1)
	if !ok || !ok2 || len(before)+len(after) > len(whole) || !strings.HasPrefix(whole, before) || !strings.HasSuffix(whole, after) {
		return 0, false
	}
	return len(whole) - len(after) + common(after, last), true
}
