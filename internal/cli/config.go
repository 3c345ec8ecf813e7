package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/peftkit/peftkit/internal/spell"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configFile reads a YAML file (JSON is YAML too) into the flags of a command.
// Keys are flag names, with hyphens or underscores, or their aliases; method
// options without a flag of their own go by their key. A flag that was given on
// the command line keeps its value. An unknown key is an error that names the
// line: a setting that is silently ignored costs a night of training.
type configFile struct {
	path  string
	cmd   *cobra.Command
	set   func(key, value string) error // method options
	known []string                      // keys of method options
	given map[string]int                // flag -> line
}

// read applies the file.
func (c *configFile) read() error {
	b, err := os.ReadFile(c.path)
	if err != nil {
		return withCode(exitUsage, err)
	}
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return usagef("%s: %s", c.path, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	c.given = map[string]int{}
	documents := 0
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if documents++; documents > 1 {
			return c.errorf(doc.Body, "a second document; expected one mapping of settings")
		}
		pairs, ok := pairsOf(doc.Body)
		if !ok {
			return c.errorf(doc.Body, "expected settings as KEY: VALUE, found %s", strings.ToLower(doc.Body.Type().String()))
		}
		if err := c.pairs(pairs); err != nil {
			return err
		}
	}
	return nil
}

func (c *configFile) errorf(n ast.Node, format string, args ...any) error {
	return usagef("%s:%d: %s", c.path, n.GetToken().Position.Line, fmt.Sprintf(format, args...))
}

// pairsOf returns the entries of a mapping.
func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch x := n.(type) {
	case *ast.MappingNode:
		return x.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{x}, true
	}
	return nil, false
}

func (c *configFile) pairs(pairs []*ast.MappingValueNode) error {
	for _, p := range pairs {
		key := p.Key.GetToken().Value
		if err := c.pair(key, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *configFile) pair(key string, p *ast.MappingValueNode) error {
	name := strings.ReplaceAll(strings.ToLower(key), "_", "-")
	value := p.Value
	if value.Type() == ast.NullType {
		return nil
	}
	switch name {
	case "lora-parameters": // MLX keeps rank, scale and dropout together
		pairs, ok := pairsOf(value)
		if !ok {
			return c.errorf(p.Key, "%s: expected a mapping", key)
		}
		return c.pairs(pairs)
	case "set":
		pairs, ok := pairsOf(value)
		if !ok {
			return c.errorf(p.Key, "set: expected a mapping of method options")
		}
		for _, o := range pairs {
			if err := c.option(o.Key.GetToken().Value, o); err != nil {
				return err
			}
		}
		return nil
	case "lora-target-linear": // axolotl
		text, err := c.text(value)
		if err != nil || text != "true" {
			return err
		}
		return c.flag("target-modules", "all-linear", p)
	}
	if f := c.lookup(name); f != nil {
		text, err := c.text(value)
		if err != nil {
			return err
		}
		if f.Name == "target-modules" && text == "all" {
			text = "all-linear"
		}
		if seq, ok := value.(*ast.SequenceNode); ok && strings.HasPrefix(f.Value.Type(), "FIELD") || ok && f.Name == "lora" {
			return c.repeat(f, seq, p)
		}
		return c.flag(f.Name, text, p)
	}
	// packing: false is --no-packing.
	if f := c.lookup("no-" + name); f != nil && f.Value.Type() == "bool" {
		text, err := c.text(value)
		if err != nil {
			return err
		}
		switch text {
		case "true":
			return c.flag(f.Name, "false", p)
		case "false":
			return c.flag(f.Name, "true", p)
		}
		return c.errorf(value, "%s: found %q, expected true or false", key, text)
	}
	if slices.Contains(c.known, strings.ReplaceAll(name, "-", "_")) {
		return c.option(strings.ReplaceAll(name, "-", "_"), p)
	}
	return c.unknown(key, name, p)
}

func (c *configFile) lookup(name string) *pflag.Flag {
	f := c.cmd.Flags().Lookup(name)
	if f == nil || f.Name == "config" || f.Name == "help" || f.Name == "set" {
		return nil
	}
	return f
}

func (c *configFile) unknown(key, name string, p *ast.MappingValueNode) error {
	words := slices.Clone(c.known)
	c.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			words = append(words, f.Name)
		}
	})
	err := c.errorf(p.Key, "unknown key %q", key)
	if about := otherFlags[name]; about != "" {
		return withHint(err, "%s", about)
	}
	if near := spell.Nearest(name, words); near != "" {
		return withHint(err, "did you mean %q? %s --help lists all keys", strings.ReplaceAll(near, "-", "_"), c.cmd.CommandPath())
	}
	return withHint(err, "%s --help: the keys are the names of the flags", c.cmd.CommandPath())
}

// flag sets a flag unless the command line did.
func (c *configFile) flag(name, text string, p *ast.MappingValueNode) error {
	line := p.Key.GetToken().Position.Line
	if other, ok := c.given[name]; ok {
		return c.errorf(p.Key, "%q sets %s, which line %d has set before", p.Key.GetToken().Value, name, other)
	}
	c.given[name] = line
	f := c.cmd.Flags().Lookup(name)
	if f.Changed {
		return nil
	}
	// Commands ask whether a flag was given; the file gives it too.
	if err := f.Value.Set(text); err != nil {
		err := c.errorf(p.Value, "%s: found %q: %s", p.Key.GetToken().Value, text, plainError(err))
		if choice, ok := f.Value.(*choice); ok {
			if hint := choiceHint(f.Name, text, choice.of); hint != "" {
				return withHint(err, "%s", hint)
			}
		}
		return err
	}
	f.Changed = true
	return nil
}

// repeat sets a flag that may be given several times from a list.
func (c *configFile) repeat(f *pflag.Flag, seq *ast.SequenceNode, p *ast.MappingValueNode) error {
	if f.Changed {
		return nil
	}
	for _, v := range seq.Values {
		text, err := c.text(v)
		if err != nil {
			return err
		}
		if err := f.Value.Set(text); err != nil {
			return c.errorf(v, "%s: %s", f.Name, plainError(err))
		}
	}
	c.given[f.Name] = p.Key.GetToken().Position.Line
	f.Changed = len(seq.Values) > 0
	return nil
}

// option sets a method option; a list or mapping is handed over as JSON.
func (c *configFile) option(key string, p *ast.MappingValueNode) error {
	text, err := c.json(p.Value)
	if err != nil {
		return err
	}
	if err := c.set(key, text); err != nil {
		return c.errorf(p.Key, "%s", err)
	}
	return nil
}

// text writes a value as it would stand on a command line: a list is joined by commas.
func (c *configFile) text(n ast.Node) (string, error) {
	switch x := n.(type) {
	case *ast.SequenceNode:
		var parts []string
		for _, v := range x.Values {
			s, err := c.text(v)
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), nil
	case *ast.LiteralNode:
		return x.Value.Value, nil
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, nil
	}
	return "", c.errorf(n, "expected a plain value or a list, found %s", strings.ToLower(n.Type().String()))
}

// json writes plain values as they are and everything else as JSON.
func (c *configFile) json(n ast.Node) (string, error) {
	switch n.(type) {
	case *ast.SequenceNode, *ast.MappingNode, *ast.MappingValueNode:
	default:
		return c.text(n)
	}
	var v any
	if err := yaml.NodeToValue(n, &v); err != nil {
		return "", c.errorf(n, "%v", err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", c.errorf(n, "%v", err)
	}
	return string(b), nil
}

// plainError removes what strconv adds around its reason.
func plainError(err error) string {
	s := err.Error()
	switch {
	case strings.Contains(s, "ParseFloat"):
		return "expected a number"
	case strings.Contains(s, "ParseInt"), strings.Contains(s, "ParseUint"):
		return "expected a whole number"
	case strings.Contains(s, "ParseBool"):
		return "expected true or false"
	}
	return s
}

// finiteFlag refuses a number that is none.
func finiteFlag(name string, v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return usagef("--%s %g: expected a number", name, v)
	}
	return nil
}
