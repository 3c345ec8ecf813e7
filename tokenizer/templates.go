package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// ggufTemplate begins the keys of named chat templates in GGUF.
const ggufTemplate = "tokenizer.chat_template."

// toolUse is the name of the chat template for conversations with tools.
const toolUse = "tool_use"

// namedTemplate is a chat template beside the default.
type namedTemplate struct{ Name, Template string }

// ChatTemplate returns the Jinja template of the model's chat format, "" when
// it has none.
func (t *Tokenizer) ChatTemplate() string { return t.template }

// ToolTemplate returns the Jinja template for conversations with tools. It is the
// one named tool_use, which few models have; of all others it is ChatTemplate.
func (t *Tokenizer) ToolTemplate() string {
	if s := t.NamedTemplate(toolUse); s != "" {
		return s
	}
	return t.template
}

// NamedTemplate returns a chat template by its name ("default", "tool_use", "rag"),
// "" when the model has none of this name.
func (t *Tokenizer) NamedTemplate(name string) string {
	if name == "default" {
		return t.template
	}
	if i := t.findTemplate(name); i >= 0 {
		return t.named[i].Template
	}
	return ""
}

func (t *Tokenizer) findTemplate(name string) int {
	return slices.IndexFunc(t.named, func(e namedTemplate) bool { return e.Name == name })
}

// Templates returns the default chat template of a model and the names of the
// others, without reading the rest of its tokenizer.
func Templates(m *formats.Model) (text string, names []string) {
	t := &Tokenizer{template: m.Meta.Str("tokenizer.chat_template")}
	t.namedInGGUF(m.Meta)
	var config struct {
		Template json.RawMessage `json:"chat_template"`
	}
	_ = json.Unmarshal(m.Files["tokenizer_config.json"], &config) // what is no JSON has no template
	if m.Naming != formats.GGUF {
		t.readTemplates(m.Files, config.Template)
	}
	for _, e := range t.named {
		names = append(names, e.Name)
	}
	return t.template, names
}

// readTemplates takes the templates of files or, where there are none, of
// tokenizer_config.json: one, or a list of named ones.
func (t *Tokenizer) readTemplates(files map[string][]byte, config json.RawMessage) {
	t.template = string(files["chat_template.jinja"])
	for file, b := range files {
		if name, ok := formats.TemplateName(file); ok {
			t.addTemplate(name, string(b))
		}
	}
	// A map has no order.
	slices.SortFunc(t.named, func(a, b namedTemplate) int { return strings.Compare(a.Name, b.Name) })
	var list []namedTemplate
	switch {
	case t.template != "" || json.Unmarshal(config, &t.template) == nil:
	case json.Unmarshal(config, &list) == nil: // anything else is no template
		for _, e := range list {
			t.addTemplate(e.Name, e.Template)
		}
		if t.template == "" && len(list) > 0 {
			t.template = list[0].Template
		}
	}
}

// namedInGGUF takes the named templates of a GGUF file.
func (t *Tokenizer) namedInGGUF(meta formats.Meta) {
	for _, e := range meta {
		if name, ok := strings.CutPrefix(e.Key, ggufTemplate); ok {
			if text, ok := e.Value.(string); ok {
				t.addTemplate(name, text)
			}
		}
	}
}

// addTemplate keeps a template; of two of one name the first.
func (t *Tokenizer) addTemplate(name, text string) {
	switch {
	case name == "" || text == "":
	case name == "default":
		if t.template == "" {
			t.template = text
		}
	case t.findTemplate(name) < 0:
		t.named = append(t.named, namedTemplate{name, text})
	}
}
