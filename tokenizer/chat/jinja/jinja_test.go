package jinja

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// decode reads JSON into the values of templates, keys in their order.
func decode(t testing.TB, d *json.Decoder) any {
	t.Helper()
	tok, err := d.Token()
	require.NoError(t, err)
	switch x := tok.(type) {
	case json.Delim:
		if x == '[' {
			l := NewList()
			for d.More() {
				l.Items = append(l.Items, decode(t, d))
			}
			_, _ = d.Token()
			return l
		}
		m := NewDict()
		for d.More() {
			k, err := d.Token()
			require.NoError(t, err)
			require.NoError(t, m.Set(k, decode(t, d)))
		}
		_, _ = d.Token()
		return m
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, err := x.Float64()
		require.NoError(t, err)
		return f
	}
	return tok
}

// testdata/golden.json holds what transformers' Jinja renders
// (testdata/golden.py).
func TestJinja(t *testing.T) {
	paths := []string{"testdata/golden.json"}
	if more := os.Getenv("PEFTKIT_JINJA_GOLDEN"); more != "" {
		paths = append(paths, more)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		var g struct {
			Vars  json.RawMessage
			Cases []struct{ Source, Text, Error string }
		}
		require.NoError(t, json.Unmarshal(b, &g))
		d := json.NewDecoder(bytes.NewReader(g.Vars))
		d.UseNumber()
		all := decode(t, d).(*Dict)
		vars := map[string]any{}
		for _, k := range all.keys {
			vars[k.(string)], _ = all.Get(k)
		}
		for _, c := range g.Cases {
			got := ""
			tmpl, err := Parse(c.Source)
			if err == nil {
				got, err = tmpl.Render(vars)
			}
			if c.Error != "" {
				require.Error(t, err, "%s\nwant %s\ngot %q", c.Source, c.Error, got)
				continue
			}
			require.NoError(t, err, c.Source)
			require.Equal(t, c.Text, got, c.Source)
		}
	}
}

// What a template must not do to the program that renders it.
func TestBounds(t *testing.T) {
	for _, source := range []string{
		"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
		"{% for i in range(1000000000) %}{% endfor %}",
		"{% set ns = namespace(s='abcdefgh') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
		"{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
		"{{ 'a' * 99999999999 }}", "{{ [1] * 99999999999 }}", "{{ 9 ** 9 ** 9 }}", "{{ 9223372036854775807 + 1 }}",
		strings.Repeat("(", 1000), "{{ " + strings.Repeat("(", 1000) + " }}", "{{ " + strings.Repeat("not ", 100000) + "x }}",
		"{{ " + strings.Repeat("-", 100000) + "1 }}", strings.Repeat("{% if x %}", 1000), "{% if a %}{{" + strings.Repeat("[", 5000),
		"{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}",
		"{% set ns = namespace() %}{% set ns.__x = 1 %}", "{% set x.y = 1 %}", "{% break %}", "{% generation %}", "{{ '%99999999d' % 1 }}",
	} {
		tmpl, err := Parse(source)
		if err == nil {
			_, err = tmpl.Render(map[string]any{})
		}
		if strings.HasPrefix(source, "(") {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, source[:min(len(source), 60)])
	}
}

func TestErrorsSayWhere(t *testing.T) {
	_, err := Parse("a\nb\n{# c #}\n{{ y | nothing }}")
	var s *SyntaxError
	require.ErrorAs(t, err, &s)
	require.Equal(t, 4, s.Line)
	require.Contains(t, err.Error(), `"nothing"`)
	tmpl, err := Parse("{{ messages[0].role }}")
	require.NoError(t, err)
	_, err = tmpl.Render(nil)
	require.ErrorContains(t, err, "messages")
}

func TestGeneration(t *testing.T) {
	tmpl, err := Parse("a{% generation %}\nb{% endgeneration %}\nc")
	require.NoError(t, err)
	got, err := tmpl.Render(nil)
	require.NoError(t, err)
	require.Equal(t, "abc", got)
}

func TestStrftime(t *testing.T) {
	at := time.Date(2024, 7, 5, 9, 3, 4, 0, time.UTC)
	require.Equal(t, "05 Jul 2024 | July 5, 2024 | 09:03:04 AM | 187 % %q", strftime(at, "%d %b %Y | %B %-d, %Y | %H:%M:%S %p | %j %% %q"))
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile("testdata/golden.json")
	require.NoError(f, err)
	var g struct{ Cases []struct{ Source string } }
	require.NoError(f, json.Unmarshal(b, &g))
	for _, c := range g.Cases {
		f.Add(c.Source, "text")
	}
	f.Fuzz(func(t *testing.T, source, s string) {
		tmpl, err := Parse(source)
		if err != nil {
			return
		}
		d := NewDict()
		_ = d.Set("role", s)
		out, err := tmpl.Render(map[string]any{"messages": NewList(d, d), "x": int64(3), "s": s, "f": 1.5})
		if err != nil {
			require.NotContains(t, err.Error(), "the template fails")
		}
		require.LessOrEqual(t, len(out), maxOutput)
	})
}
