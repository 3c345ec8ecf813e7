package jinja

import (
	"fmt"
	"slices"
	"strconv"
)

// maxDepth bounds how deep a template nests.
const maxDepth = 200

type parser struct {
	toks  []token
	pos   int
	depth int
	loops int
	// unknown are the errors of names that are no filters or tests. Those in a branch
	// that may not be taken are forgotten: they fail when it is.
	unknown []error
}

func (p *parser) cur() token { return p.toks[p.pos] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) fail(format string, args ...any) error {
	return &SyntaxError{p.cur().line, fmt.Sprintf(format, args...)}
}

// soft forgets the unknown names since there were n.
func (p *parser) soft(n int) { p.unknown = p.unknown[:n] }

// hard fails for an unknown name since there were n, as Jinja does in the bodies of
// loops, macros and blocks, which have scopes of their own.
func (p *parser) hard(n int) error {
	if len(p.unknown) > n {
		return p.unknown[n]
	}
	return nil
}

func (p *parser) isOp(op string) bool { t := p.cur(); return t.kind == tokOp && t.text == op }

func (p *parser) isName(name string) bool { t := p.cur(); return t.kind == tokName && t.text == name }

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.fail("expected %q, got %s", op, p.cur())
	}
	return nil
}

func (p *parser) expect(k kind) (token, error) {
	if p.cur().kind != k {
		return token{}, p.fail("expected %s, got %s", kindName(k), p.cur())
	}
	return p.next(), nil
}

func kindName(k kind) string {
	return map[kind]string{tokEOF: "the end", tokData: "text", tokBlockBegin: "{%", tokBlockEnd: "%}", tokVarBegin: "{{", tokVarEnd: "}}",
		tokName: "a name", tokString: "a string", tokInt: "a number", tokFloat: "a number", tokOp: "an operator"}[k]
}

func (t token) String() string {
	if t.kind == tokName || t.kind == tokOp {
		return strconv.Quote(t.text)
	}
	return kindName(t.kind)
}

func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return p.fail("nested too deeply")
	}
	return nil
}

// body parses statements up to a block tag of one of the names, which is left
// after its name.
func (p *parser) body(ends ...string) ([]stmt, string, error) {
	if err := p.enter(); err != nil {
		return nil, "", err
	}
	defer func() { p.depth-- }()
	var out []stmt
	for {
		switch t := p.next(); t.kind {
		case tokEOF:
			if len(ends) == 0 {
				return out, "", nil
			}
			return nil, "", p.fail("missing %s", ends[len(ends)-1])
		case tokData:
			out = append(out, &dataNode{t.text})
		case tokVarBegin:
			e, err := p.tuple(true, nil, false)
			if err != nil {
				return nil, "", err
			}
			if _, err := p.expect(tokVarEnd); err != nil {
				return nil, "", err
			}
			out = append(out, &outputNode{[]expr{e}})
		case tokBlockBegin:
			name, err := p.expect(tokName)
			if err != nil {
				return nil, "", err
			}
			if slices.Contains(ends, name.text) {
				return out, name.text, nil
			}
			s, err := p.statement(name.text)
			if err != nil {
				return nil, "", err
			}
			out = append(out, s)
		default:
			return nil, "", p.fail("unexpected %s", t)
		}
	}
}

// block parses the body of a tag whose end takes nothing, and that end.
func (p *parser) block(end string) ([]stmt, error) {
	if _, err := p.expect(tokBlockEnd); err != nil {
		return nil, err
	}
	unknown := len(p.unknown)
	b, _, err := p.body(end)
	if err != nil {
		return nil, err
	}
	if end != "endif" {
		if err := p.hard(unknown); err != nil {
			return nil, err
		}
	}
	if end == "endblock" || end == "endmacro" {
		if p.cur().kind == tokName {
			p.next()
		}
	}
	_, err = p.expect(tokBlockEnd)
	return b, err
}
