package chat

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
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
		tail, err := t.behind(c, i, prompt, with)
		if err != nil {
			return "", 0, 0, err
		}
		text, start = prompt+tail, len(prompt)
	default: // a template that refuses a conversation without this answer, or an empty one
		if start, err = t.begin(c, i); err != nil {
			return "", 0, 0, err
		}
		text = with
	}
	return text, start, start + answerEnd(text[start:], c.Messages[i].Content), nil
}

// answerEnd returns where an answer ends: before the white space that follows the
// end of its turn. Where nothing but the content itself stands there, all of it counts.
func answerEnd(answer, content string) int {
	if content != "" && strings.HasSuffix(answer, content) {
		return len(answer)
	}
	return len(strings.TrimRight(answer, " \t\r\n"))
}

// behind returns what follows a generation prompt that is no beginning of the text
// with the answer: the prompt opens or skips a thought that the template does not
// repeat when it renders the answer.
func (t *Template) behind(c *Conversation, i int, prompt, with string) (string, error) {
	n := common(prompt, with)
	before, err := t.Render(c.upTo(i), false)
	if i == 0 && err != nil {
		before, err = "", nil
	}
	if err != nil || n < len(before) || !strings.HasPrefix(prompt, before) {
		return "", &SpanError{i, fmt.Sprintf("the text with the answer differs from its prompt at byte %d, %s", n, around(prompt, with, n))}
	}
	m := &c.Messages[i]
	extra, rest := prompt[n:], with[n:]
	for _, tag := range thoughtTags {
		opener, closer := tag[0], tag[1]
		header := prompt[len(before):]
		opened := strings.Count(header, opener) > strings.Count(header, closer)
		switch {
		case !opened && strings.Contains(extra, closer) && strings.Contains(rest, closer):
			return "", &SpanError{i, fmt.Sprintf("the generation prompt ends the thought (%s) and the answer has one", closer)}
		case opened && strings.Contains(rest, closer):
			// The same thought, with other white space after its opener.
			_, after, _ := strings.Cut(with[len(before):], opener)
			return strings.TrimLeft(after, "\n"), nil
		case opened:
			// The template leaves the thought out of the answer; the model has to write it.
			thought, shown := t.thought(m, opener, closer)
			end := strings.TrimLeft(rest, "\n")
			if !strings.HasPrefix(strings.TrimSpace(end), shown) {
				return "", &SpanError{i, "the template changes its content"}
			}
			return thought + "\n" + closer + "\n\n" + end, nil
		}
	}
	return rest, nil
}

// thoughtTags enclose what a model writes before its answer.
var thoughtTags = [][2]string{{"<think>", "</think>"}, {"[THINK]", "[/THINK]"}, {"<seed:think>", "</seed:think>"}}

// thought returns the thought of a message and what of its content is the answer.
func (t *Template) thought(m *Message, opener, closer string) (thought, shown string) {
	shown = strings.TrimSpace(m.Content)
	for _, name := range Thoughts {
		if s, ok := m.Field(name).(string); ok && s != "" {
			return strings.Trim(s, "\n"), shown
		}
	}
	if before, after, ok := strings.Cut(m.Content, closer); ok {
		return strings.Trim(strings.TrimPrefix(strings.TrimLeft(before, "\n"), opener), "\n"), strings.TrimSpace(after)
	}
	return "", shown
}

// Thoughts are the fields of a message that hold what the model thought before it
// answered, as templates and data sets call them.
var Thoughts = []string{"reasoning_content", "thinking", "reasoning"}

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
	if i == 0 && err != nil {
		before, err = "", nil
	}
	if err == nil {
		var with string
		if with, err = t.Render(c.upTo(i+1), false); err == nil && strings.HasPrefix(with, before) && strings.HasPrefix(whole, with) {
			return len(before), len(with), nil
		}
	}
	return 0, 0, &SpanError{i, "the turns up to it are no beginning of the whole text"}
}

// common returns the length of the common prefix, whole characters only.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && (n < len(a) && !utf8.RuneStart(a[n]) || n < len(b) && !utf8.RuneStart(b[n])) {
		n--
	}
	return n
}

// around quotes two texts where they begin to differ.
func around(a, b string, n int) string {
	cut := func(s string) string {
		r := []rune(s[n:])
		return fmt.Sprintf("%q", string(r[:min(24, len(r))]))
	}
	return cut(a) + " and " + cut(b)
}
