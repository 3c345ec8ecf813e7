package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Bounds of one rendering.
const (
	maxSteps  = 5_000_000
	maxOutput = 64 << 20
	maxCalls  = 200
	maxRepeat = 1 << 20
)

var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

// scope holds the names of a block; a name that is not there is looked for in
// the one around.
type scope struct {
	vars map[string]any
	up   *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.up {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

func (s *scope) set(name string, v any) {
	if s.vars == nil {
		s.vars = map[string]any{}
	}
	s.vars[name] = v
}

type interp struct {
	steps, calls int
	size         int
	out          *strings.Builder
	begin, end   string // around generation blocks
}

func (in *interp) step() error {
	if in.steps++; in.steps > maxSteps {
		return errors.New("the template runs for too long")
	}
	return nil
}

func (in *interp) write(s string) error {
	if in.size += len(s); in.size > maxOutput {
		return errors.New("the template writes too much")
	}
	in.out.WriteString(s)
	return nil
}

// capture runs statements and returns what they write.
func (in *interp) capture(body []stmt, s *scope) (string, error) {
	old := in.out
	in.out = new(strings.Builder)
	err := in.run(body, s)
	text := in.out.String()
	in.out = old
	return text, err
}

func (in *interp) run(body []stmt, s *scope) error {
	for _, st := range body {
		if err := in.exec(st, s); err != nil {
			return err
		}
	}
	return nil
}

func (in *interp) exec(st stmt, s *scope) error {
	if err := in.step(); err != nil {
		return err
	}
	switch n := st.(type) {
	case *dataNode:
		return in.write(n.text)
	case *outputNode:
		for _, e := range n.exprs {
			v, err := in.eval(e, s)
			if err != nil {
				return err
			}
			if err := in.write(str(v)); err != nil {
				return err
			}
		}
	case *ifNode:
		v, err := in.eval(n.cond, s)
		if err != nil {
			return err
		}
		if truth(v) {
			return in.run(n.then, s)
		}
		return in.run(n.other, s)
	case *forNode:
		v, err := in.eval(n.iter, s)
		if err != nil {
			return err
		}
		return in.loop(n, v, s, 1)
	case *setNode:
		v, err := in.eval(n.value, s)
		if err != nil {
			return err
		}
		return assign(n.target, v, s)
	case *setBlockNode:
		text, err := in.capture(n.body, &scope{up: s})
		if err != nil {
			return err
		}
		v, err := in.applyAll(n.filters, text, s)
		if err != nil {
			return err
		}
		return assign(n.target, v, s)
	case *filterNode:
		text, err := in.capture(n.body, &scope{up: s})
		if err != nil {
			return err
		}
		v, err := in.applyAll(n.filters, text, s)
		if err != nil {
			return err
		}
		return in.write(str(v))
	case *macroNode:
		s.set(n.name, &macro{n, s})
	case *callNode:
		pos, kw, err := in.args(&n.call.args, s)
		if err != nil {
			return err
		}
		fn, err := in.eval(n.call.fn, s)
		if err != nil {
			return err
		}
		m, ok := fn.(*macro)
		if !ok {
			return fmt.Errorf("call wants a macro, not %s", typeName(fn))
		}
		v, err := in.callMacro(m, pos, kw, &macro{n.macro, s})
		if err != nil {
			return err
		}
		return in.write(str(v))
	case *withNode:
		sub := &scope{up: s}
		for i, t := range n.targets {
			v, err := in.eval(n.values[i], s)
			if err != nil {
				return err
			}
			if err := assign(t, v, sub); err != nil {
				return err
			}
		}
		return in.run(n.body, sub)
	case *scopeNode:
		return in.run(n.body, &scope{up: s})
	case *generationNode:
		if err := in.write(in.begin); err != nil {
			return err
		}
		if err := in.run(n.body, &scope{up: s}); err != nil {
			return err
		}
		return in.write(in.end)
	case *breakNode:
		return errBreak
	case *continueNode:
		return errContinue
	}
	return nil
}

func assign(t target, v any, s *scope) error {
	switch {
	case t.tuple != nil:
		items, err := elements(v)
		if err != nil {
			return err
		}
		if len(items) != len(t.tuple) {
			return fmt.Errorf("cannot unpack %d values into %d names", len(items), len(t.tuple))
		}
		for i := range items {
			if err := assign(t.tuple[i], items[i], s); err != nil {
				return err
			}
		}
		return nil
	case t.attr != "":
		o, _ := s.get(t.name)
		ns, ok := o.(*namespace)
		if !ok {
			return fmt.Errorf("cannot assign attribute %s on %s, which is no namespace", t.attr, t.name)
		}
		if strings.HasPrefix(t.attr, "_") {
			return fmt.Errorf("cannot assign the attribute %s", t.attr)
		}
		return ns.attrs.Set(t.attr, v)
	}
	s.set(t.name, v)
	return nil
}

// loop is the variable loop inside of a for.
type loop struct {
	items []any
	i     int
	depth int
	last  any // of changed()
	once  bool
	node  *forNode
	scope *scope
	in    *interp
}

func (in *interp) loop(n *forNode, v any, s *scope, depth int) error {
	all, err := elements(v)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return errors.New("nested too deeply")
	}
	l := &loop{items: all, depth: depth, node: n, scope: s, in: in}
	if n.test != nil {
		l.items = nil
		for _, x := range all {
			if err := in.step(); err != nil {
				return err
			}
			sub := &scope{up: s}
			if err := assign(n.target, x, sub); err != nil {
				return err
			}
			ok, err := in.eval(n.test, sub)
			if err != nil {
				return err
			}
			if truth(ok) {
				l.items = append(l.items, x)
			}
		}
	}
	for i, x := range l.items {
		if err := in.step(); err != nil {
			return err
		}
		l.i = i
		sub := &scope{up: s}
		sub.set("loop", l)
		if err := assign(n.target, x, sub); err != nil {
			return err
		}
		switch err := in.run(n.body, sub); err {
		case nil, errContinue:
		case errBreak:
			return nil
		default:
			return err
		}
	}
	if len(l.items) == 0 {
		return in.run(n.other, &scope{up: s})
	}
	return nil
}

func (l *loop) attr(name string) any {
	n := len(l.items)
	at := func(i int) any {
		if i < 0 || i >= n {
			return Undefined{name}
		}
		return l.items[i]
	}
	switch name {
	case "index":
		return int64(l.i + 1)
	case "index0":
		return int64(l.i)
	case "revindex":
		return int64(n - l.i)
	case "revindex0":
		return int64(n - l.i - 1)
	case "first":
		return l.i == 0
	case "last":
		return l.i == n-1
	case "length":
		return int64(n)
	case "depth":
		return int64(l.depth)
	case "depth0":
		return int64(l.depth - 1)
	case "previtem":
		return at(l.i - 1)
	case "nextitem":
		return at(l.i + 1)
	case "cycle":
		return Func(func(args []any, _ map[string]any) (any, error) {
			if len(args) == 0 {
				return nil, errors.New("cycle wants values")
			}
			return args[l.i%len(args)], nil
		})
	case "changed":
		return Func(func(args []any, _ map[string]any) (any, error) {
			v := &List{Items: args, Tuple: true}
			if l.once && equal(l.last, v) {
				return false, nil
			}
			l.last, l.once = v, true
			return true, nil
		})
	}
	return Undefined{name}
}

func (in *interp) eval(e expr, s *scope) (any, error) {
	if err := in.step(); err != nil {
		return nil, err
	}
	switch n := e.(type) {
	case *constExpr:
		return n.value, nil
	case *nameExpr:
		if v, ok := s.get(n.name); ok {
			return v, nil
		}
		if g, ok := globals[n.name]; ok {
			return g, nil
		}
		return Undefined{n.name}, nil
	case *listExpr:
		l := &List{Items: make([]any, len(n.items)), Tuple: n.tuple}
		for i, x := range n.items {
			v, err := in.eval(x, s)
			if err != nil {
				return nil, err
			}
			l.Items[i] = v
		}
		return l, nil
	case *dictExpr:
		d := NewDict()
		for i := range n.keys {
			k, err := in.eval(n.keys[i], s)
			if err != nil {
				return nil, err
			}
			v, err := in.eval(n.values[i], s)
			if err != nil {
				return nil, err
			}
			if err := d.Set(k, v); err != nil {
				return nil, err
			}
		}
		return d, nil
	case *condExpr:
		c, err := in.eval(n.cond, s)
		switch {
		case err != nil:
			return nil, err
		case truth(c):
			return in.eval(n.then, s)
		case n.other != nil:
			return in.eval(n.other, s)
		}
		return Undefined{"the missing else"}, nil
	case *andExpr:
		l, err := in.eval(n.left, s)
		if err != nil || !truth(l) {
			return l, err
		}
		return in.eval(n.right, s)
	case *orExpr:
		l, err := in.eval(n.left, s)
		if err != nil || truth(l) {
			return l, err
		}
		return in.eval(n.right, s)
	case *notExpr:
		v, err := in.eval(n.x, s)
		return !truth(v), err
	case *unaryExpr:
		v, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		if n.op == "-" {
			if i, ok := integer(v); ok && i != math.MinInt64 {
				return -i, nil
			}
			if f, ok := v.(float64); ok {
				return -f, nil
			}
		} else if _, ok := number(v); ok {
			return v, nil
		}
		return nil, fmt.Errorf("cannot take %s of %s", n.op, describe(v))
	case *binaryExpr:
		l, err := in.eval(n.left, s)
		if err != nil {
			return nil, err
		}
		r, err := in.eval(n.right, s)
		if err != nil {
			return nil, err
		}
		return in.binary(n.op, l, r)
	case *compareExpr:
		return in.compare(n, s)
	case *attrExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		return attribute(x, n.name)
	case *itemExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		if sl, ok := n.key.(*sliceExpr); ok {
			return in.slice(x, sl, s)
		}
		k, err := in.eval(n.key, s)
		if err != nil {
			return nil, err
		}
		return item(x, k)
	case *callExpr:
		fn, err := in.eval(n.fn, s)
		if err != nil {
			return nil, err
		}
		pos, kw, err := in.args(&n.args, s)
		if err != nil {
			return nil, err
		}
		return in.call(fn, pos, kw, exprName(n.fn))
	case *filterExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		return in.apply(n, x, s)
	case *testExpr:
		x, err := in.eval(n.x, s)
		if err != nil {
			return nil, err
		}
		pos, _, err := in.args(&n.args, s)
		if err != nil {
			return nil, err
		}
		ok, err := tests[n.name](x, pos)
		return ok != n.not, err
	}
	return nil, fmt.Errorf("cannot evaluate %T", e)
}

func exprName(e expr) string {
	switch n := e.(type) {
	case *nameExpr:
		return n.name
	case *attrExpr:
		return n.name
	}
	return "the value"
}

// describe names a value in an error.
func describe(v any) string {
	if u, ok := v.(Undefined); ok {
		return fmt.Sprintf("%q, which is undefined", u.Name)
	}
	return "a " + typeName(v)
}

func (in *interp) applyAll(fs []*filterExpr, v any, s *scope) (any, error) {
	for _, f := range fs {
		var err error
		if v, err = in.apply(f, v, s); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (in *interp) apply(f *filterExpr, x any, s *scope) (any, error) {
	pos, kw, err := in.args(&f.args, s)
	if err != nil {
		return nil, err
	}
	v, err := filters[f.name](&filterCall{in: in, x: x, args: pos, kwargs: kw})
	if err != nil {
		return nil, fmt.Errorf("filter %s: %w", f.name, err)
	}
	return v, nil
}

func (in *interp) args(a *callArgs, s *scope) (pos []any, kw map[string]any, err error) {
	for _, e := range a.pos {
		v, err := in.eval(e, s)
		if err != nil {
			return nil, nil, err
		}
		pos = append(pos, v)
	}
	if a.star != nil {
		v, err := in.eval(a.star, s)
		if err != nil {
			return nil, nil, err
		}
		items, err := elements(v)
		if err != nil {
			return nil, nil, err
		}
		pos = append(pos, items...)
	}
	put := func(k string, v any) error {
		if kw == nil {
			kw = map[string]any{}
		}
		if _, ok := kw[k]; ok {
			return fmt.Errorf("argument %s is given twice", k)
		}
		kw[k] = v
		return nil
	}
	for i, e := range a.values {
		v, err := in.eval(e, s)
		if err != nil {
			return nil, nil, err
		}
		if err := put(a.names[i], v); err != nil {
			return nil, nil, err
		}
	}
	if a.starStar != nil {
		v, err := in.eval(a.starStar, s)
		if err != nil {
			return nil, nil, err
		}
		d, ok := v.(*Dict)
		if !ok {
			return nil, nil, fmt.Errorf("** wants a dict, not %s", typeName(v))
		}
		for _, k := range d.keys {
			x, _ := d.Get(k)
			if err := put(str(k), x); err != nil {
				return nil, nil, err
			}
		}
	}
	return pos, kw, nil
}

func (in *interp) call(fn any, pos []any, kw map[string]any, name string) (any, error) {
	switch f := fn.(type) {
	case Func:
		v, err := f(pos, kw)
		var r *Raised
		if err != nil && !errors.As(err, &r) {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return v, err
	case *macro:
		return in.callMacro(f, pos, kw, nil)
	case *loop: // loop(children) of a recursive loop
		if !f.node.recursive || len(pos) != 1 {
			return nil, errors.New("loop cannot be called: the for is not recursive")
		}
		old := in.out
		in.out = new(strings.Builder)
		err := in.loop(f.node, pos[0], f.scope, f.depth+1)
		text := in.out.String()
		in.out = old
		return text, err
	}
	return nil, fmt.Errorf("cannot call %s: it is %s", name, describe(fn))
}

func (in *interp) callMacro(m *macro, pos []any, kw map[string]any, caller any) (any, error) {
	if in.calls++; in.calls > maxCalls {
		return nil, errors.New("macros call one another too deeply")
	}
	defer func() { in.calls-- }()
	s := &scope{up: m.scope}
	n := m.node
	if len(pos) > len(n.params) {
		return nil, fmt.Errorf("macro %s takes %d arguments, got %d", n.name, len(n.params), len(pos))
	}
	used := 0
	for i, p := range n.params {
		v, ok := kw[p]
		if ok {
			used++
			if i < len(pos) {
				return nil, fmt.Errorf("macro %s: argument %s is given twice", n.name, p)
			}
		}
		switch d := i - (len(n.params) - len(n.defaults)); {
		case i < len(pos):
			v = pos[i]
		case ok:
		case d >= 0:
			var err error
			if v, err = in.eval(n.defaults[d], s); err != nil {
				return nil, err
			}
		default:
			v = Undefined{p}
		}
		s.set(p, v)
	}
	if c, ok := kw["caller"]; ok && caller == nil {
		caller = c
		used++
	}
	if used < len(kw) {
		return nil, fmt.Errorf("macro %s got an argument that it does not have", n.name)
	}
	if caller != nil {
		s.set("caller", caller)
	}
	return in.capture(n.body, s)
}

func (in *interp) compare(n *compareExpr, s *scope) (any, error) {
	l, err := in.eval(n.left, s)
	if err != nil {
		return nil, err
	}
	for i, op := range n.ops {
		r, err := in.eval(n.args[i], s)
		if err != nil {
			return nil, err
		}
		ok := false
		switch op {
		case "==":
			ok = equal(l, r)
		case "!=":
			ok = !equal(l, r)
		case "in", "not in":
			if ok, err = contains(r, l); err != nil {
				return nil, err
			}
			ok = ok == (op == "in")
		default:
			c, err := compare(l, r)
			if err != nil {
				return nil, err
			}
			ok = op == "<" && c < 0 || op == "<=" && c <= 0 || op == ">" && c > 0 || op == ">=" && c >= 0
		}
		if !ok {
			return false, nil
		}
		l = r
	}
	return true, nil
}

func (in *interp) binary(op string, l, r any) (any, error) {
	if op == "~" {
		return join(str(l), str(r))
	}
	bad := func() (any, error) {
		return nil, fmt.Errorf("cannot do %s %s %s", describe(l), op, describe(r))
	}
	if a, ok := l.(string); ok {
		switch b := r.(type) {
		case string:
			if op == "+" {
				return join(a, b)
			}
		case int64:
			if op == "*" {
				return repeatString(a, b)
			}
		}
		if op == "%" {
			return sprintf(a, r)
		}
		return bad()
	}
	if a, ok := l.(*List); ok {
		switch b := r.(type) {
		case *List:
			if op == "+" && a.Tuple == b.Tuple {
				if len(a.Items)+len(b.Items) > maxRepeat {
					return nil, errors.New("the list becomes too long")
				}
				return &List{Items: append(append([]any{}, a.Items...), b.Items...), Tuple: a.Tuple}, nil
			}
		case int64:
			if op == "*" {
				if b > 0 && int64(len(a.Items)) > maxRepeat/b {
					return nil, errors.New("the list becomes too long")
				}
				out := &List{Tuple: a.Tuple}
				for ; b > 0; b-- {
					out.Items = append(out.Items, a.Items...)
				}
				return out, nil
			}
		}
		return bad()
	}
	if n, ok := integer(l); ok && op == "*" {
		if b, ok := r.(string); ok {
			return repeatString(b, n)
		}
		if b, ok := r.(*List); ok {
			return in.binary(op, b, n)
		}
	}
	a, ok1 := integer(l)
	b, ok2 := integer(r)
	if ok1 && ok2 && op != "/" {
		return integers(op, a, b)
	}
	x, ok1 := number(l)
	y, ok2 := number(r)
	if !ok1 || !ok2 {
		return bad()
	}
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "**":
		return math.Pow(x, y), nil
	}
	if y == 0 {
		return nil, errors.New("division by zero")
	}
	switch op {
	case "/":
		return x / y, nil
	case "//":
		return math.Floor(x / y), nil
	}
	m := math.Mod(x, y)
	if m != 0 && (m < 0) != (y < 0) {
		m += y
	}
	return m, nil
}

func join(a, b string) (any, error) {
	if len(a)+len(b) > maxOutput {
		return nil, errors.New("the text becomes too long")
	}
	return a + b, nil
}

func repeatString(s string, n int64) (any, error) {
	if n <= 0 {
		return "", nil
	}
	if int64(len(s)) > maxRepeat/n {
		return nil, errors.New("the text becomes too long")
	}
	return strings.Repeat(s, int(n)), nil
}

var errOverflow = errors.New("a number becomes too large")

func integers(op string, a, b int64) (any, error) {
	switch op {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return c, nil
		}
		return nil, errOverflow
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return c, nil
		}
		return nil, errOverflow
	case "*":
		if a == 0 || b == 0 {
			return int64(0), nil
		}
		if c := a * b; c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64) {
			return c, nil
		}
		return nil, errOverflow
	case "//", "%":
		if b == 0 {
			return nil, errors.New("division by zero")
		}
		if b == -1 {
			if op == "%" {
				return int64(0), nil
			}
			return integers("-", 0, a)
		}
		q, m := a/b, a%b
		if m != 0 && (m < 0) != (b < 0) {
			q, m = q-1, m+b
		}
		if op == "//" {
			return q, nil
		}
		return m, nil
	}
	if b < 0 { // a power
		return math.Pow(float64(a), float64(b)), nil
	}
	switch {
	case a == 1 || b == 0:
		return int64(1), nil
	case a == 0:
		return int64(0), nil
	case a == -1:
		return 1 - 2*(b%2), nil
	}
	out := int64(1)
	for ; b > 0; b-- { // at most 63 times before it overflows
		v, err := integers("*", out, a)
		if err != nil {
			return nil, err
		}
		out = v.(int64)
	}
	return out, nil
}

// attribute is x.name: a method or attribute, then an item.
func attribute(x any, name string) (any, error) {
	if u, ok := x.(Undefined); ok {
		return nil, fmt.Errorf("%q is undefined and has no attribute %q", u.Name, name)
	}
	if strings.HasPrefix(name, "_") {
		return Undefined{name}, nil
	}
	switch v := x.(type) {
	case *loop:
		return v.attr(name), nil
	case *namespace:
		if a, ok := v.attrs.Get(name); ok {
			return a, nil
		}
		return Undefined{name}, nil
	case string:
		if m := stringMethods[name]; m != nil {
			return Func(func(args []any, kw map[string]any) (any, error) { return m(v, args, kw) }), nil
		}
	case *List:
		if m := listMethods[name]; m != nil {
			return Func(func(args []any, kw map[string]any) (any, error) { return m(v, args) }), nil
		}
	case *Dict:
		if m := dictMethods[name]; m != nil {
			return Func(func(args []any, kw map[string]any) (any, error) { return m(v, args) }), nil
		}
		if a, ok := v.Get(name); ok {
			return a, nil
		}
	case *macro:
		if name == "name" {
			return v.node.name, nil
		}
	}
	return Undefined{name}, nil
}

// item is x[key]: an item, then an attribute.
func item(x, key any) (any, error) {
	switch v := x.(type) {
	case Undefined:
		return nil, fmt.Errorf("%q is undefined and has no item %s", v.Name, str(key))
	case *Dict:
		if a, ok := v.Get(key); ok {
			return a, nil
		}
	case *List:
		if i, ok := integer(key); ok {
			if i < 0 {
				i += int64(len(v.Items))
			}
			if i >= 0 && i < int64(len(v.Items)) {
				return v.Items[i], nil
			}
			return Undefined{str(key)}, nil
		}
	case string:
		if i, ok := integer(key); ok {
			rs := []rune(v)
			if i < 0 {
				i += int64(len(rs))
			}
			if i >= 0 && i < int64(len(rs)) {
				return string(rs[i]), nil
			}
			return Undefined{str(key)}, nil
		}
	}
	if name, ok := key.(string); ok {
		return attribute(x, name)
	}
	return Undefined{str(key)}, nil
}

func (in *interp) slice(x any, n *sliceExpr, s *scope) (any, error) {
	var bound [3]*int64
	for i, e := range []expr{n.start, n.stop, n.step} {
		if e == nil {
			continue
		}
		v, err := in.eval(e, s)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		k, ok := integer(v)
		if !ok {
			return nil, fmt.Errorf("a slice wants whole numbers, not %s", describe(v))
		}
		bound[i] = &k
	}
	var items []any
	var err error
	switch v := x.(type) {
	case *List:
		items = v.Items
	case string:
		items, err = elements(v)
	default:
		return nil, fmt.Errorf("cannot slice %s", describe(x))
	}
	if err != nil {
		return nil, err
	}
	size, step := int64(len(items)), int64(1)
	if bound[2] != nil {
		if step = *bound[2]; step == 0 {
			return nil, errors.New("a slice with step 0")
		}
	}
	clip := func(b *int64, def int64) int64 {
		if b == nil {
			return def
		}
		i := *b
		if i < 0 {
			i += size
		}
		if step > 0 {
			return min(max(i, 0), size)
		}
		return min(max(i, -1), size-1)
	}
	out := []any{}
	if step > 0 {
		for i, end := clip(bound[0], 0), clip(bound[1], size); i < end; i += step {
			out = append(out, items[i])
			if step > size {
				break
			}
		}
	} else {
		for i, end := clip(bound[0], size-1), clip(bound[1], -1); i > end; i += step {
			out = append(out, items[i])
			if step < -size {
				break
			}
		}
	}
	if _, ok := x.(string); ok {
		var b strings.Builder
		for _, c := range out {
			b.WriteString(c.(string))
		}
		return b.String(), nil
	}
	return &List{Items: out, Tuple: x.(*List).Tuple}, nil
}
