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
	// generation tells that the template has {% generation %} blocks.
	generation bool
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

func (p *parser) isOp(op string) bool     { t := p.cur(); return t.kind == tokOp && t.text == op }
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
	b, _, err := p.body(end)
	if err != nil {
		return nil, err
	}
	if end == "endblock" || end == "endmacro" {
		if p.cur().kind == tokName {
			p.next()
		}
	}
	_, err = p.expect(tokBlockEnd)
	return b, err
}

func (p *parser) statement(name string) (stmt, error) {
	switch name {
	case "if":
		return p.ifBlock()
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
		p.generation = true
		b, err := p.block("endgeneration")
		return &generationNode{b}, err
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
		n.other, err = p.block("endfor")
		return n, err
	}
	_, err = p.expect(tokBlockEnd)
	return n, err
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
		if fs, err = p.filters(nil); err != nil {
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

// tuple parses an expression, or several with commas between.
func (p *parser) tuple(cond bool, ends []string, paren bool) (expr, error) {
	parse := p.expression
	if !cond {
		parse = p.or
	}
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if !p.skipOp(",") {
				break
			}
			isTuple = true
		}
		t := p.cur()
		if t.kind == tokVarEnd || t.kind == tokBlockEnd || p.isOp(")") || t.kind == tokName && slices.Contains(ends, t.text) {
			break
		}
		e, err := parse()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	if !isTuple {
		if len(items) == 1 {
			return items[0], nil
		}
		if !paren {
			return nil, p.fail("expected an expression, got %s", p.cur())
		}
	}
	return &listExpr{items, true}, nil
}

func (p *parser) expression() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.skipName("if") {
		c := &condExpr{then: e}
		if c.cond, err = p.or(); err != nil {
			return nil, err
		}
		if p.skipName("else") {
			if c.other, err = p.expression(); err != nil {
				return nil, err
			}
		}
		e = c
	}
	return e, nil
}

func (p *parser) or() (expr, error) {
	e, err := p.and()
	for err == nil && p.skipName("or") {
		var r expr
		r, err = p.and()
		e = &orExpr{e, r}
	}
	return e, err
}

func (p *parser) and() (expr, error) {
	e, err := p.not()
	for err == nil && p.skipName("and") {
		var r expr
		r, err = p.not()
		e = &andExpr{e, r}
	}
	return e, err
}

func (p *parser) not() (expr, error) {
	if !p.skipName("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	e, err := p.not()
	p.depth--
	return &notExpr{e}, err
}

func (p *parser) compare() (expr, error) {
	e, err := p.math1()
	if err != nil {
		return nil, err
	}
	c := &compareExpr{left: e}
	for {
		op := ""
		switch t := p.cur(); {
		case t.kind == tokOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text):
			op = t.text
			p.next()
		case p.isName("in"):
			op = "in"
			p.next()
		case p.isName("not") && p.toks[p.pos+1].kind == tokName && p.toks[p.pos+1].text == "in":
			op = "not in"
			p.pos += 2
		}
		if op == "" {
			break
		}
		r, err := p.math1()
		if err != nil {
			return nil, err
		}
		c.ops, c.args = append(c.ops, op), append(c.args, r)
	}
	if len(c.ops) == 0 {
		return e, nil
	}
	return c, nil
}

// binary parses a level of operators that bind to the left.
func (p *parser) binary(sub func() (expr, error), ops ...string) (expr, error) {
	e, err := sub()
	for err == nil && p.cur().kind == tokOp && slices.Contains(ops, p.cur().text) {
		op := p.next().text
		var r expr
		r, err = sub()
		e = &binaryExpr{op, e, r}
	}
	return e, err
}

func (p *parser) math1() (expr, error)  { return p.binary(p.concat, "+", "-") }
func (p *parser) concat() (expr, error) { return p.binary(p.math2, "~") }
func (p *parser) math2() (expr, error)  { return p.binary(p.pow, "*", "/", "//", "%") }
func (p *parser) pow() (expr, error) {
	return p.binary(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var e expr
	var err error
	if t := p.cur(); t.kind == tokOp && (t.text == "-" || t.text == "+") {
		p.next()
		var x expr
		x, err = p.unary(false)
		e = &unaryExpr{t.text, x}
	} else {
		e, err = p.primary()
	}
	if err != nil {
		return nil, err
	}
	if e, err = p.postfix(e); err != nil || !filters {
		return e, err
	}
	for err == nil {
		switch {
		case p.skipOp("|"):
			e, err = p.filter(e)
		case p.skipName("is"):
			e, err = p.test(e)
		case p.isOp("("):
			e, err = p.call(e)
		default:
			return e, nil
		}
	}
	return nil, err
}

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
		return nil, p.fail("no filter named %q", f.name)
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
		return nil, p.fail("no test named %q", t.name)
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
