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
	body       []stmt
	generation bool
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
	return &Template{body, p.generation}, nil
}

// HasGeneration reports whether the template has {% generation %} blocks.
func (t *Template) HasGeneration() bool { return t.generation }

// Raised is the error of a template that calls raise_exception.
type Raised struct{ Message string }

func (e *Raised) Error() string { return e.Message }

// Render fills in a template. begin and end are written around what the
// {% generation %} blocks write.
func (t *Template) Render(vars map[string]any, begin, end string) (out string, err error) {
	defer func() {
		// Nothing here is known to panic. A template is input, and input must not
		// end a program.
		if r := recover(); r != nil {
			out, err = "", fmt.Errorf("the template fails: %v", r)
		}
	}()
	in := &interp{out: new(strings.Builder), begin: begin, end: end}
	root := &scope{vars: vars}
	if err := in.run(t.body, &scope{up: root}); err != nil {
		return "", err
	}
	return in.out.String(), nil
}
