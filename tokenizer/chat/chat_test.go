package chat

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type golden struct {
	Templates map[string]string
	Cases     []struct {
		Name     string
		Messages []Message
		Prompt   bool
		Text     string
		Error    string
	}
}

func readGolden(t testing.TB, path string) *golden {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	g := new(golden)
	require.NoError(t, json.Unmarshal(b, g))
	return g
}

// testdata/golden.json holds what transformers renders (testdata/golden.py).
func TestTransformers(t *testing.T) {
	g := readGolden(t, "testdata/golden.json")
	for _, c := range g.Cases {
		tmpl, err := New(g.Templates[c.Name], "<s>", "</s>")
		require.NoError(t, err, c.Name)
		got, err := tmpl.Render(c.Messages, c.Prompt)
		if c.Error != "" {
			var r *Raised
			require.ErrorAs(t, err, &r, c.Name)
			require.Equal(t, c.Error, r.Message)
			continue
		}
		require.NoError(t, err, "%s %v", c.Name, c.Messages)
		require.Equal(t, c.Text, got, "%s %v", c.Name, c.Messages)
	}
}

func TestSpans(t *testing.T) {
	g := readGolden(t, "testdata/golden.json")
	talk := []Message{{"system", "Be brief."}, {"user", "One?"}, {"assistant", "1"}, {"user", "Two?"}, {"assistant", " 2 "}}
	for _, c := range []struct {
		name string
		msgs []Message
		want []string
	}{
		{"chatml", talk, []string{"1<|im_end|>", " 2 <|im_end|>"}},
		{"chatml-default-system", talk[1:], []string{"1<|im_end|>", " 2 <|im_end|>"}},
		{"headers", talk, []string{"1<|eot_id|>", "2<|eot_id|>"}},
		{"zephyr", talk, []string{"1</s>", " 2 </s>"}},
		{"inst", talk, []string{" 1</s>", " 2</s>"}},
		{"turns", talk[1:], []string{"1<end_of_turn>", "2<end_of_turn>"}},
		{"generation", talk, []string{"1<|end|>", " 2 <|end|>"}},
		{"last-turn", talk, []string{"1<|im_end|>", " 2 <|im_end|>"}},
		{"thinking", talk[1:], []string{"1<|e|>", " 2 <|e|>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := New(g.Templates[c.name], "<s>", "</s>")
			require.NoError(t, err)
			text, spans, err := tmpl.Spans(c.msgs)
			require.NoError(t, err)
			whole, err := tmpl.Render(c.msgs, false)
			require.NoError(t, err)
			require.Equal(t, whole, text)
			var got []string
			for _, s := range spans {
				got = append(got, text[s[0]:s[1]])
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestSpansRefused(t *testing.T) {
	// Each text shows how many turns there are, so none is a prefix of a longer
	// one, and the contents are changed.
	tmpl, err := New("{{ messages|length }}{% for m in messages %}{{ m.role }}:{{ m.content | upper }};{% endfor %}", "", "")
	require.NoError(t, err)
	_, _, err = tmpl.Spans([]Message{{"user", "a"}, {"assistant", "b"}, {"user", "c"}})
	var s *SpanError
	require.ErrorAs(t, err, &s)
	require.Equal(t, 1, s.Message)
}

func TestFallback(t *testing.T) {
	text, spans, err := Fallback("").Spans([]Message{{"user", "a"}, {"assistant", "b"}})
	require.NoError(t, err)
	require.Equal(t, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n", text)
	require.Equal(t, "b<|im_end|>", text[spans[0][0]:spans[0][1]])
	text, err = Fallback("</s>").Render([]Message{{"user", "a"}}, true)
	require.NoError(t, err)
	require.Equal(t, "<|im_start|>user\na</s>\n<|im_start|>assistant\n", text)
}

func TestHostile(t *testing.T) {
	for _, source := range []string{
		"{% include '/etc/hostname' %}", "{% extends '../secret' %}", "{% import '/etc/hostname' as x %}",
		"{% for i in range(1000000000) %}{% endfor %}", "{{ raise_exception('no') }}",
	} {
		tmpl, err := New(source, "", "")
		if err == nil {
			_, err = tmpl.Render([]Message{{"user", "x"}}, false)
		}
		require.Error(t, err, source)
	}
	_, err := New("{% for m in messages %}", "", "")
	require.Error(t, err)
}

func TestConcurrent(t *testing.T) {
	tmpl := Fallback("</s>")
	errs := make(chan error, 8)
	for range 8 {
		go func() {
			for range 50 {
				s, err := tmpl.Render([]Message{{"user", "a"}}, true)
				if err == nil && !strings.HasPrefix(s, "<|im_start|>user\na") {
					err = errors.New(s)
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("{% for m in messages %}{{ m.role }}{{ m['content'] | tojson }}{% endfor %}{{ x | trim }}", "hello")
	f.Add("{%- set ns = namespace(a=1) -%}{{ ns.a ~ messages[::-1] }}", "")
	f.Add("{% generation %}{{ 1 / 0 }}{% endgeneration %}", "x")
	f.Fuzz(func(t *testing.T, source, content string) {
		if len(source) > 200 { // loops in loops are slow, not wrong
			return
		}
		tmpl, err := New(source, "<s>", "</s>")
		if err != nil {
			return
		}
		_, _, _ = tmpl.Spans([]Message{{"user", content}, {"assistant", content}})
	})
}
