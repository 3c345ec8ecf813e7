package jinja

func (p *parser) statement(name string) (stmt, error) {
	unknown := len(p.unknown)
	switch name {
	case "if":
		s, err := p.ifBlock()
		if err == nil {
			p.soft(unknown)
		}
		return s, err
	case "for":
		return p.forBlock()
	case "set":
		return p.set()
	case "macro":
		return p.macro()
	case "call":
		return p.callBlock()
	case "filter":
		fs, err := p.filters(nil)
		if err != nil {
			return nil, err
		}
		if err := p.hard(unknown); err != nil {
			return nil, err
		}
		b, err := p.block("endfilter")
		return &filterNode{fs, b}, err
	case "with":
		n := &withNode{}
		for p.cur().kind != tokBlockEnd {
			if len(n.targets) > 0 {
				if err := p.expectOp(","); err != nil {
					return nil, err
				}
			}
			t, err := p.target(false)
			if err != nil {
				return nil, err
			}
			if err := p.expectOp("="); err != nil {
				return nil, err
			}
			v, err := p.expression()
			if err != nil {
				return nil, err
			}
			n.targets, n.values = append(n.targets, t), append(n.values, v)
		}
		var err error
		n.body, err = p.block("endwith")
		return n, err
	case "block":
		if _, err := p.expect(tokName); err != nil {
			return nil, err
		}
		b, err := p.block("endblock")
		return &scopeNode{b}, err
	case "generation":
		// What transformers marks here for its mask of the assistant's tokens is text as any other.
		b, err := p.block("endgeneration")
		return &scopeNode{b}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, p.fail("%s outside of a loop", name)
		}
		_, err := p.expect(tokBlockEnd)
		if name == "break" {
			return &breakNode{}, err
		}
		return &continueNode{}, err
	}
	return nil, p.fail("unknown tag %q", name)
}

func (p *parser) ifBlock() (stmt, error) {
	cond, err := p.tuple(false, nil, false)
	if err != nil {
		return nil, err
	}
	if _, err := p.expect(tokBlockEnd); err != nil {
		return nil, err
	}
	then, end, err := p.body("elif", "else", "endif")
	if err != nil {
		return nil, err
	}
	n := &ifNode{cond: cond, then: then}
	switch end {
	case "elif":
		if err := p.enter(); err != nil {
			return nil, err
		}
		s, err := p.ifBlock()
		p.depth--
		n.other = []stmt{s}
		return n, err
	case "else":
		n.other, err = p.block("endif")
		return n, err
	}
	_, err = p.expect(tokBlockEnd)
	return n, err
}

func (p *parser) forBlock() (stmt, error) {
	t, err := p.target(true)
	if err != nil {
		return nil, err
	}
	if !p.skipName("in") {
		return nil, p.fail("expected \"in\", got %s", p.cur())
	}
	n := &forNode{target: t}
	if n.iter, err = p.tuple(false, []string{"recursive"}, false); err != nil {
		return nil, err
	}
	unknown := len(p.unknown)
	if p.skipName("if") {
		if n.test, err = p.expression(); err != nil {
			return nil, err
		}
	}
	n.recursive = p.skipName("recursive")
	if _, err := p.expect(tokBlockEnd); err != nil {
		return nil, err
	}
	p.loops++
	body, end, err := p.body("else", "endfor")
	p.loops--
	if err != nil {
		return nil, err
	}
	if n.body = body; end == "else" {
		if n.other, err = p.block("endfor"); err != nil {
			return nil, err
		}
		return n, p.hard(unknown)
	}
	if _, err = p.expect(tokBlockEnd); err != nil {
		return nil, err
	}
	return n, p.hard(unknown)
}

func (p *parser) set() (stmt, error) {
	t, err := p.target(true)
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		v, err := p.tuple(true, nil, false)
		if err != nil {
			return nil, err
		}
		_, err = p.expect(tokBlockEnd)
		return &setNode{t, v}, err
	}
	var fs []*filterExpr
	if p.skipOp("|") {
		unknown := len(p.unknown)
		if fs, err = p.filters(nil); err != nil {
			return nil, err
		}
		if err := p.hard(unknown); err != nil {
			return nil, err
		}
	}
	b, err := p.block("endset")
	return &setBlockNode{t, fs, b}, err
}

// filters parses name|name(args) and so on.
func (p *parser) filters(out []*filterExpr) ([]*filterExpr, error) {
	for {
		f, err := p.filter(nil)
		if err != nil {
			return nil, err
		}
		if out = append(out, f); !p.skipOp("|") {
			return out, nil
		}
	}
}

func (p *parser) macro() (stmt, error) {
	name, err := p.expect(tokName)
	if err != nil {
		return nil, err
	}
	m := &macroNode{name: name.text}
	if err := p.params(m); err != nil {
		return nil, err
	}
	loops := p.loops
	p.loops = 0
	m.body, err = p.block("endmacro")
	p.loops = loops
	return m, err
}

// params parses (a, b=1).
func (p *parser) params(m *macroNode) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	for !p.skipOp(")") {
		if len(m.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
		}
		n, err := p.expect(tokName)
		if err != nil {
			return err
		}
		m.params = append(m.params, n.text)
		if p.skipOp("=") {
			d, err := p.expression()
			if err != nil {
				return err
			}
			m.defaults = append(m.defaults, d)
		} else if len(m.defaults) > 0 {
			return p.fail("a parameter without a default follows one with")
		}
	}
	return nil
}

func (p *parser) callBlock() (stmt, error) {
	m := &macroNode{name: "caller"}
	if p.isOp("(") {
		if err := p.params(m); err != nil {
			return nil, err
		}
	}
	e, err := p.expression()
	if err != nil {
		return nil, err
	}
	c, ok := e.(*callExpr)
	if !ok {
		return nil, p.fail("expected a call")
	}
	loops := p.loops
	p.loops = 0
	m.body, err = p.block("endcall")
	p.loops = loops
	return &callNode{c, m}, err
}

// target parses what is assigned to; with tuples also a, b.
func (p *parser) target(tuples bool) (target, error) {
	one := func() (target, error) {
		if p.skipOp("(") {
			if err := p.enter(); err != nil {
				return target{}, err
			}
			t, err := p.target(true)
			p.depth--
			if err != nil {
				return target{}, err
			}
			return t, p.expectOp(")")
		}
		n, err := p.expect(tokName)
		if err != nil {
			return target{}, err
		}
		switch n.text {
		case "true", "false", "none", "True", "False", "None":
			return target{}, p.fail("cannot assign to %s", n.text)
		}
		t := target{name: n.text}
		if p.skipOp(".") {
			a, err := p.expect(tokName)
			if err != nil {
				return target{}, err
			}
			t.attr = a.text
		}
		return t, nil
	}
	first, err := one()
	if err != nil || !tuples || !p.isOp(",") {
		return first, err
	}
	list := []target{first}
	for p.skipOp(",") {
		if p.isOp("=") || p.isName("in") || p.isOp(")") {
			break
		}
		t, err := one()
		if err != nil {
			return target{}, err
		}
		list = append(list, t)
	}
	return target{tuple: list}, nil
}
