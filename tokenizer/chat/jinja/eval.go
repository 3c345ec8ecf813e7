package jinja

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of one rendering.
const (
	maxSteps  = 5_000_000
	maxOutput = 64 << 20
	maxCalls  = 200
	maxRepeat = 1 << 20
	// maxMade bounds the bytes of texts and lists that operators, calls and filters
	// return, in all: each is bounded, but a template can keep many.
	maxMade = 256 << 20
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
	size, bytes  int
	out          *strings.Builder
}

func (in *interp) step() error {
	if in.steps++; in.steps > maxSteps {
		return errors.New("the template runs for too long")
	}
	return nil
}

// made counts the memory of a result.
func (in *interp) made(v any, err error) (any, error) {
	switch v := v.(type) {
	case string:
		in.bytes += len(v)
	case *List:
		if v != nil {
			in.bytes += 16 * len(v.Items)
		}
	}
	if err == nil && in.bytes > maxMade {
		return nil, errors.New("the template takes too much memory")
	}
	return v, err
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

// filtered captures a body in a scope of its own and passes it through filters.
func (in *interp) filtered(body []stmt, fs []*filterExpr, s *scope) (any, error) {
	text, err := in.capture(body, &scope{up: s})
	if err != nil {
		return nil, err
	}
	return in.applyAll(fs, text, s)
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
		v, err := in.filtered(n.body, n.filters, s)
		if err != nil {
			return err
		}
		return assign(n.target, v, s)
	case *filterNode:
		v, err := in.filtered(n.body, n.filters, s)
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
