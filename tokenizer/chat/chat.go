// Package chat renders conversations with the Jinja chat templates that models
// carry, as transformers' apply_chat_template does, and tells which parts of the
// text are answers of the assistant.
package chat

import (
	"errors"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// Message is one turn of a conversation. Role is "system", "user", "assistant"
// or whatever else the template knows.
type Message struct{ Role, Content string }

// Template is a parsed chat template. It may be used by several goroutines at once.
type Template struct {
	source   string
	template *jinja.Template
	bos, eos string
	marked   bool // has {% generation %} blocks
}

// Raised is the error of a template that refuses a conversation by calling
// raise_exception, for instance when roles do not alternate.
type Raised struct{ Message string }

func (e *Raised) Error() string {
	return "the chat template refuses the conversation: " + e.Message
}

// New parses a template. bos and eos are the texts of the model's tokens, "" for
// those it does not have. A template cannot read files or reach anything else
// but the conversation.
func New(source, bos, eos string) (*Template, error) {
	t, err := jinja.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	return &Template{source, t, bos, eos, t.HasGeneration()}, nil
}

// Source returns the text of the template.
func (t *Template) Source() string { return t.source }

// Fallback returns the template for models without one, close to ChatML:
//
//	<|im_start|>ROLE
//	CONTENT<end>
//
// where end is eos, so that a model ends its turn with the token it knows, and
// <|im_end|> when eos is empty. A model that was not trained on this format first
// learns it while it is fine-tuned.
func Fallback(eos string) *Template {
	end := eos
	if end == "" {
		end = "<|im_end|>"
	}
	t, err := New("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n' }}{% endfor %}"+
		"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", "", end)
	if err != nil {
		panic(err) // the source is a constant
	}
	return t
}

// Render writes a conversation. With addGenerationPrompt it ends where the
// assistant's answer begins. The text holds the special tokens, BOS included where
// the template writes one: encode it without adding them again.
func (t *Template) Render(msgs []Message, addGenerationPrompt bool) (string, error) {
	s, err := t.render(msgs, addGenerationPrompt)
	if err != nil || !t.marked {
		return s, err
	}
	return strings.NewReplacer(markStart, "", markEnd, "").Replace(s), nil
}

// Around what a {% generation %} block writes go two noncharacters, which no
// text may hold, so that the block is found again in the result.
const (
	markStart = "\uFDD0"
	markEnd   = "\uFDD1"
)

func (t *Template) render(msgs []Message, addGenerationPrompt bool) (string, error) {
	list := jinja.NewList()
	for i, m := range msgs {
		if t.marked && strings.ContainsAny(m.Role+m.Content, markStart+markEnd) {
			return "", fmt.Errorf("chat template: message %d holds a noncharacter (U+FDD0 or U+FDD1)", i)
		}
		d := jinja.NewDict()
		_ = d.Set("role", m.Role) // a string is a key
		_ = d.Set("content", m.Content)
		list.Items = append(list.Items, d)
	}
	vars := map[string]any{
		"messages":              list,
		"add_generation_prompt": addGenerationPrompt,
		"tools":                 nil,
		"documents":             nil,
	}
	if t.bos != "" {
		vars["bos_token"] = t.bos
	}
	if t.eos != "" {
		vars["eos_token"] = t.eos
	}
	out, err := t.template.Render(vars, markStart, markEnd)
	var r *jinja.Raised
	switch {
	case errors.As(err, &r):
		return "", &Raised{r.Message}
	case err != nil:
		return "", fmt.Errorf("chat template: %w", err)
	}
	return out, nil
}
