package jinja

import (
	"slices"
	"strconv"
)

func (p *parser) primary() (expr, error) {
	switch t := p.next(); t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return &constExpr{true}, nil
		case "false", "False":
			return &constExpr{false}, nil
		case "none", "None":
			return &constExpr{nil}, nil
		}
		return &nameExpr{t.text}, nil
	case tokString:
		s := t.text
		for p.cur().kind == tokString {
			s += p.next().text
		}
		return &constExpr{s}, nil
	case tokInt:
		v, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, p.fail("number %s is too large", t.text)
		}
		return &constExpr{v}, nil
	case tokFloat:
		v, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return nil, p.fail("bad number %s", t.text)
		}
		return &constExpr{v}, nil
	case tokOp:
		switch t.text {
		case "(":
			e, err := p.tuple(true, nil, true)
			if err != nil {
				return nil, err
			}
			return e, p.expectOp(")")
		case "[":
			l := &listExpr{}
			for !p.skipOp("]") {
				if len(l.items) > 0 {
					if err := p.expectOp(","); err != nil {
						return nil, err
					}
					if p.skipOp("]") {
						break
					}
				}
				e, err := p.expression()
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, e)
			}
			return l, nil
		case "{":
			d := &dictExpr{}
			for !p.skipOp("}") {
				if len(d.keys) > 0 {
					if err := p.expectOp(","); err != nil {
						return nil, err
					}
					if p.skipOp("}") {
						break
					}
				}
				k, err := p.expression()
				if err != nil {
					return nil, err
				}
				if err := p.expectOp(":"); err != nil {
					return nil, err
				}
				v, err := p.expression()
				if err != nil {
					return nil, err
				}
				d.keys, d.values = append(d.keys, k), append(d.values, v)
			}
			return d, nil
		}
	}
	p.pos--
	return nil, p.fail("expected an expression, got %s", p.cur())
}

func (p *parser) postfix(e expr) (expr, error) {
	for {
		var err error
		switch {
		case p.skipOp("."):
			switch t := p.next(); t.kind {
			case tokName:
				e = &attrExpr{e, t.text}
			case tokInt:
				v, perr := strconv.ParseInt(t.text, 10, 64)
				e, err = &itemExpr{e, &constExpr{v}}, perr
			default:
				p.pos--
				return nil, p.fail("expected a name after the dot, got %s", p.cur())
			}
		case p.skipOp("["):
			var k expr
			if k, err = p.subscript(); err == nil {
				e, err = &itemExpr{e, k}, p.expectOp("]")
			}
		case p.isOp("("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript() (expr, error) {
	var parts [3]expr
	slice := false
	for i := 0; ; i++ {
		if !p.isOp(":") && !p.isOp("]") {
			e, err := p.expression()
			if err != nil {
				return nil, err
			}
			parts[i] = e
		}
		if i == 2 || !p.skipOp(":") {
			break
		}
		slice = true
	}
	if slice {
		return &sliceExpr{parts[0], parts[1], parts[2]}, nil
	}
	if parts[0] == nil {
		return nil, p.fail("expected an expression, got %s", p.cur())
	}
	return parts[0], nil
}

func (p *parser) args() (a callArgs, err error) {
	if err := p.expectOp("("); err != nil {
		return a, err
	}
	for n := 0; !p.skipOp(")"); n++ {
		if n > 0 {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.skipOp(")") {
				break
			}
		}
		switch {
		case p.skipOp("**"):
			a.starStar, err = p.expression()
		case p.skipOp("*"):
			a.star, err = p.expression()
		case p.cur().kind == tokName && p.toks[p.pos+1].kind == tokOp && p.toks[p.pos+1].text == "=":
			a.names = append(a.names, p.next().text)
			p.next()
			var e expr
			e, err = p.expression()
			a.values = append(a.values, e)
		default:
			if len(a.names) > 0 {
				return a, p.fail("a positional argument follows a keyword argument")
			}
			var e expr
			e, err = p.expression()
			a.pos = append(a.pos, e)
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

func (p *parser) call(e expr) (expr, error) {
	a, err := p.args()
	return &callExpr{e, a}, err
}

func (p *parser) filter(e expr) (*filterExpr, error) {
	n, err := p.expect(tokName)
	if err != nil {
		return nil, err
	}
	f := &filterExpr{x: e, name: n.text, line: n.line}
	if filters[f.name] == nil {
		p.unknown = append(p.unknown, p.fail("no filter named %q", f.name))
	}
	if p.isOp("(") {
		f.args, err = p.args()
	}
	return f, err
}

func (p *parser) test(e expr) (expr, error) {
	t := &testExpr{x: e, not: p.skipName("not")}
	n, err := p.expect(tokName)
	if err != nil {
		return nil, err
	}
	t.name, t.line = n.text, n.line
	if tests[t.name] == nil {
		p.unknown = append(p.unknown, p.fail("no test named %q", t.name))
	}
	c := p.cur()
	switch {
	case p.isOp("("):
		t.args, err = p.args()
	case c.kind == tokString || c.kind == tokInt || c.kind == tokFloat || p.isOp("[") || p.isOp("{") ||
		c.kind == tokName && !slices.Contains([]string{"else", "or", "and", "is", "if", "in", "not"}, c.text):
		var a expr
		if a, err = p.primary(); err == nil {
			a, err = p.postfix(a)
		}
		t.args.pos = []expr{a}
	}
	return t, err
}
