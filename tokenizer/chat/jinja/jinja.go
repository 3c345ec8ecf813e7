// Package jinja renders the Jinja templates that chat models carry, as
// transformers sets Jinja up for them: trim_blocks and lstrip_blocks on, the loop
// controls break and continue, {% generation %} blocks, a tojson that escapes
// nothing for HTML, and a sandbox in which a template changes no value but its
// own namespaces.
//
// Templates come with models and are as trustworthy as those: they reach nothing
// but the values they are given, and there are bounds on how long they run and
// how much they write. Not part of the language here are include, import, extends
// and super blocks, which a single template has no use for.
package jinja

import (
	"fmt"
	"strings"
)

// Template is a parsed template. Several goroutines may render it at once.
type Template struct {
	body  []stmt
	words map[string]bool // names and strings of the source
}

// Parse reads a template.
func Parse(source string) (*Template, error) {
	toks, err := lex(source)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	body, _, err := p.body()
	if err != nil {
		return nil, err
	}
	if err := p.hard(0); err != nil {
		return nil, err
	}
	words := map[string]bool{}
	for _, t := range toks {
		if t.kind == tokName || t.kind == tokString {
			words[t.text] = true
		}
	}
	return &Template{body, words}, nil
}

// Mentions reports whether the source has a name, an attribute or a whole string
// of this text.
func (t *Template) Mentions(word string) bool { return t.words[word] }

// Raised is the error of a template that calls raise_exception.
type Raised struct{ Message string }

func (e *Raised) Error() string { return e.Message }

// Render fills in a template.
func (t *Template) Render(vars map[string]any) (out string, err error) {
	defer func() {
		// Nothing here is known to panic. A template is input, and input must not
		// end a program.
		if r := recover(); r != nil {
			out, err = "", fmt.Errorf("the template fails: %v", r)
		}
	}()
	in := &interp{out: new(strings.Builder)}
	root := &scope{vars: vars}
	if err := in.run(t.body, &scope{up: root}); err != nil {
		return "", err
	}
	return in.out.String(), nil
}
