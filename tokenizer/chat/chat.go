// Package chat renders conversations with the Jinja chat templates that models
// carry, as transformers' apply_chat_template does, and tells which parts of the
// text are answers of the assistant.
package chat

import (
	"errors"
	"fmt"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// Message is one turn of a conversation. Role is "system", "user", "assistant"
// or whatever else the template knows.
type Message struct {
	Role, Content string
	// Fields is the whole message as the template sees it, in the order of its keys,
	// where it has more than a role and a text (tool_calls, reasoning_content, a
	// content of null). Role and Content say the same as its keys. nil for the two alone.
	Fields *jinja.Dict
}

// Field returns a field of the message, nil when it has none of this name.
func (m *Message) Field(name string) any {
	if m.Fields == nil {
		return nil
	}
	v, _ := m.Fields.Get(name)
	return v
}

// with returns the message with another content.
func (m Message) with(content string) Message {
	m.Content = content
	if m.Fields != nil {
		m.Fields = m.Fields.Clone()
		_ = m.Fields.Set("content", content) // a string is a key
	}
	return m
}

// Conversation is what a template renders.
type Conversation struct {
	Messages []Message
	// Tools are the functions that the model may call, as JSON schemas; nil for none.
	Tools *jinja.List
	// Documents are texts to answer from, for templates that know them; nil for none.
	Documents *jinja.List
	// Kwargs are further variables of the template (chat_template_kwargs), such as
	// enable_thinking; nil for none.
	Kwargs *jinja.Dict
}

// Talk is a conversation of messages alone.
func Talk(msgs ...Message) *Conversation { return &Conversation{Messages: msgs} }

// upTo is the conversation before message n.
func (c *Conversation) upTo(n int) *Conversation {
	out := *c
	out.Messages = c.Messages[:n:n]
	return &out
}

// Template is a parsed chat template. It may be used by several goroutines at once.
type Template struct {
	source   string
	template *jinja.Template
	bos, eos string
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
	return &Template{source, t, bos, eos}, nil
}

// Source returns the text of the template.
func (t *Template) Source() string { return t.source }

// Mentions reports whether the template has a name, an attribute or a string of
// this text: a field that it does not mention has no place in what it writes.
func (t *Template) Mentions(name string) bool { return t.template.Mentions(name) }

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
func (t *Template) Render(c *Conversation, addGenerationPrompt bool) (string, error) {
	out, err := t.template.Render(t.vars(c, addGenerationPrompt))
	var r *jinja.Raised
	switch {
	case errors.As(err, &r):
		return "", &Raised{r.Message}
	case err != nil:
		return "", fmt.Errorf("chat template: %w", err)
	}
	return out, nil
}

// vars are the variables of the template.
func (t *Template) vars(c *Conversation, addGenerationPrompt bool) map[string]any {
	list := jinja.NewList()
	for i := range c.Messages {
		list.Items = append(list.Items, c.Messages[i].plain())
	}
	vars := map[string]any{}
	if t.bos != "" {
		vars["bos_token"] = t.bos
	}
	if t.eos != "" {
		vars["eos_token"] = t.eos
	}
	if c.Kwargs != nil {
		for _, k := range c.Kwargs.Keys() {
			v, _ := c.Kwargs.Get(k)
			vars[fmt.Sprint(k)] = v
		}
	}
	vars["messages"] = list
	vars["add_generation_prompt"] = addGenerationPrompt
	vars["tools"], vars["documents"] = nil, nil // as in transformers they are always there
	if c.Tools != nil {
		vars["tools"] = c.Tools
	}
	if c.Documents != nil {
		vars["documents"] = c.Documents
	}
	return vars
}
