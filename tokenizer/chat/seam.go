package chat

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// seam is the place between a prompt and its answer where a template does not
// write an answer behind its own generation prompt: the prompt opens or ends a
// thought that the template leaves out of the answer, or the template renders the
// turns before in another way once there is an answer (Mistral's system prompt
// stands in the last turn, gpt-oss drops earlier thoughts).
//
// The history is always the prompt's, which is what the model sees. The answer is
// the end of the text with it.
type seam struct {
	t            *Template
	c            *Conversation
	i            int
	prompt, with string
}

// tail returns what the model has to write after the prompt.
func (s *seam) tail() (string, error) {
	header := s.header()
	p, w := s.ends()
	if rest, ok := strings.CutPrefix(w, p); ok {
		return rest, nil
	}
	if tag, at, ok := thoughtIn(header); ok {
		at += len(p) - len(header)
		if n := common(p, w); n >= at {
			return s.behindThought(tag, p[at:], w[at:])
		}
	}
	if header != "" {
		if _, rest, ok := strings.Cut(w, header); ok {
			return rest, nil
		}
	}
	n := common(p, w)
	if n+len(header) < len(p) && header != "" {
		return "", &SpanError{s.i, fmt.Sprintf("the text with the answer differs from its prompt at byte %d, %s", n, around(p, w, n))}
	}
	return w[n:], nil
}

// header returns the generation prompt itself, without the turns before it.
func (s *seam) header() string {
	before, err := s.t.Render(s.c.upTo(s.i), false)
	if err != nil && s.i > 0 {
		return ""
	}
	return s.prompt[common(s.prompt, before):]
}

// ends returns what the prompt and the text with the answer hold behind the content
// of the last message that both have, or both whole where that content does not
// stand in them.
func (s *seam) ends() (prompt, with string) {
	prompt, with = s.prompt, s.with
	if s.i == 0 {
		return prompt, with
	}
	marked := *s.c
	marked.Messages = slices.Clone(s.c.Messages[:s.i+1])
	m := &marked.Messages[s.i-1]
	*m = m.with(m.Content + mark)
	end := func(c *Conversation, ask bool, whole string) (string, bool) {
		text, err := s.t.Render(c, ask)
		at := strings.LastIndex(text, mark)
		if err != nil || at < 0 || !strings.HasSuffix(whole, text[at+len(mark):]) {
			return "", false
		}
		return text[at+len(mark):], true
	}
	p, ok := end(marked.upTo(s.i), true, prompt)
	if !ok {
		return prompt, with
	}
	w, ok := end(&marked, false, with)
	if !ok {
		return prompt, with
	}
	return p, w
}

// behindThought returns what follows a prompt that ends in extra, which opens a
// thought and may end it, where the text with the answer goes on with rest.
func (s *seam) behindThought(tag *thoughtTag, extra, rest string) (string, error) {
	inside := strings.TrimLeft(rest, " \t\r\n")
	inside, opened := strings.CutPrefix(inside, tag.opener)
	if _, after, ended := strings.Cut(extra, tag.closer); ended {
		// The model is past the thought.
		thought, shown, has := strings.Cut(inside, tag.closer)
		switch {
		case !has || !opened && strings.TrimSpace(thought) != "":
			return rest, nil
		case strings.TrimSpace(thought) == "":
			return strings.TrimPrefix(shown, after), nil
		}
		return s.think(tag)
	}
	if opened || strings.HasPrefix(inside, tag.closer) {
		if !opened {
			return rest, nil
		}
		// The same thought, with other white space after its opener.
		if same, ok := strings.CutPrefix(inside, strings.TrimPrefix(extra, tag.opener)); ok {
			return same, nil
		}
		return strings.TrimLeft(inside, "\n"), nil
	}
	if tail, ok := s.asked(); ok {
		return tail, nil
	}
	// The template leaves the thought out of the answer; the model has to write it.
	thought, shown := s.c.Messages[s.i].thought(tag)
	rest = strings.TrimLeft(rest, "\n")
	if !strings.Contains(rest, shown) {
		return "", &SpanError{s.i, "the template changes its content"}
	}
	return thought + tag.last + tag.closer + tag.gap + rest, nil
}

// think answers a message with a thought whose prompt ends the thought before it
// began, as templates have it that think only when they are asked to.
func (s *seam) think(tag *thoughtTag) (string, error) {
	kwargs := jinja.NewDict()
	if s.c.Kwargs != nil {
		kwargs = s.c.Kwargs.Clone()
	}
	added := false
	for _, name := range []string{"enable_thinking", "thinking"} {
		if _, said := kwargs.Get(name); said {
			return "", &SpanError{s.i, fmt.Sprintf("it has a thought, and with %s as the record has it the prompt ends the thought (%s)", name, tag.closer)}
		}
		if s.t.Mentions(name) {
			_ = kwargs.Set(name, true) // a string is a key
			added = true
		}
	}
	c := *s.c
	c.Kwargs = kwargs
	prompt, err1 := s.t.Render(c.upTo(s.i), true)
	with, err2 := s.t.Render(c.upTo(s.i+1), false)
	if !added || err1 != nil || err2 != nil || !strings.HasPrefix(with, prompt) {
		return "", &SpanError{s.i, fmt.Sprintf("it has a thought, and the generation prompt ends the thought (%s); give the record the chat_template_kwargs with which this template thinks", tag.closer)}
	}
	s.prompt = prompt
	return with[len(prompt):], nil
}

// asked shows how the template itself writes a thought, where the answer has none:
// with a mark as its thought.
func (s *seam) asked() (string, bool) {
	m := s.c.Messages[s.i]
	for _, name := range Thoughts {
		if m.Field(name) != nil {
			return "", false
		}
	}
	marked := *s.c
	marked.Messages = slices.Clone(s.c.Messages[:s.i+1])
	marked.Messages[s.i] = m.thinking(mark)
	text, err := s.t.Render(&marked, false)
	tail, ok := strings.CutPrefix(text, s.prompt)
	if err != nil || !ok || !strings.HasPrefix(tail, mark) {
		return "", false
	}
	return tail[len(mark):], true
}

// common returns the length of the common prefix of two texts, whole characters
// and whole tokens like <|end|> only.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == len(a) || n == len(b) {
		return n
	}
	for n > 0 && (!utf8.RuneStart(a[n]) || !utf8.RuneStart(b[n])) {
		n--
	}
	if open := strings.LastIndexByte(a[:n], '<'); open >= 0 && !strings.ContainsAny(a[open:n], "> \n") {
		n = open
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
