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
		got, err := tmpl.Render(Talk(c.Messages...), c.Prompt)
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

// answers are the texts that the sequences of a conversation train.
func answers(seqs []Sequence) (out []string) {
	for _, s := range seqs {
		for _, a := range s.Answers {
			out = append(out, s.Text[a.Start:a.End])
		}
	}
	return out
}

func all(int) bool { return true }

func TestSequences(t *testing.T) {
	g := readGolden(t, "testdata/golden.json")
	talk := []Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "One?"}, {Role: "assistant", Content: "1"}, {Role: "user", Content: "Two?"}, {Role: "assistant", Content: " 2 "}}
	for _, c := range []struct {
		name      string
		msgs      []Message
		want      []string
		sequences int
	}{
		// The generation prompt of this one has a line break more than a turn in the past.
		{"chatml", talk, []string{"1<|im_end|>", " 2 <|im_end|>"}, 2},
		{"chatml-default-system", talk[1:], []string{"1<|im_end|>", " 2 <|im_end|>"}, 1},
		{"headers", talk, []string{"1<|eot_id|>", "2<|eot_id|>"}, 1},
		{"zephyr", talk, []string{"1</s>", " 2 </s>"}, 1},
		{"inst", talk, []string{" 1</s>", " 2</s>"}, 1},
		{"turns", talk[1:], []string{"1<end_of_turn>", "2<end_of_turn>"}, 1},
		{"generation", talk, []string{"1<|end|>", " 2 <|end|>"}, 1},
		{"last-turn", talk, []string{"<think>\n\n</think>\n\n1<|im_end|>", "<think>\n\n</think>\n\n 2 <|im_end|>"}, 2},
		// The generation prompt opens a thought, which the template leaves out of the past.
		{"thinking", talk[1:], []string{"\n</think>\n\n1<|e|>", "\n</think>\n\n 2 <|e|>"}, 2},
		{"thinking", []Message{talk[1], talk[2].with("<think>\nOne is 1.\n</think>\n\n1")}, []string{"One is 1.\n</think>\n\n1<|e|>"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := New(g.Templates[c.name], "<s>", "</s>")
			require.NoError(t, err)
			seqs, err := tmpl.Sequences(Talk(c.msgs...), all)
			require.NoError(t, err)
			require.Equal(t, c.want, answers(seqs))
			require.Len(t, seqs, c.sequences)
			whole, err := tmpl.Render(Talk(c.msgs...), false)
			require.NoError(t, err)
			if c.sequences == 1 && c.name != "thinking" {
				require.Equal(t, whole, seqs[0].Text)
			}
		})
	}
}

func TestFallback(t *testing.T) {
	seqs, err := Fallback("").Sequences(Talk(Message{Role: "user", Content: "a"}, Message{Role: "assistant", Content: "b"}), all)
	require.NoError(t, err)
	require.Equal(t, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n", seqs[0].Text)
	require.Equal(t, []string{"b<|im_end|>"}, answers(seqs))
	text, err := Fallback("</s>").Render(Talk(Message{Role: "user", Content: "a"}), true)
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
			_, err = tmpl.Render(Talk(Message{Role: "user", Content: "x"}), false)
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
				s, err := tmpl.Render(Talk(Message{Role: "user", Content: "a"}), true)
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
		_, _ = tmpl.Sequences(Talk(Message{Role: "user", Content: content}, Message{Role: "assistant", Content: content}), all)
	})
}

func TestTurn(t *testing.T) {
	const body = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
	for name, c := range map[string]struct {
		source string
		want   []string
	}{
		"BOS is of no message":             {"{{ bos_token }}" + body, []string{"user:Why?\n", "assistant:So.\n"}},
		"a text of its own for no message": {"{% if not messages %}nothing{% endif %}" + body, []string{"user:Why?\n", "assistant:So.\n"}},
		"no text for no message":           {"{% set _ = messages[0].content + '' %}" + body, []string{"user:Why?\n", "assistant:So.\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := New(c.source, "<s>", "</s>")
			require.NoError(t, err)
			talk := Talk(Message{Role: "user", Content: "Why?"}, Message{Role: "assistant", Content: "So."})
			whole, err := tmpl.Render(talk, false)
			require.NoError(t, err)
			for i, want := range c.want {
				start, end, err := tmpl.Turn(talk, whole, i)
				require.NoError(t, err)
				require.Equal(t, want, whole[start:end])
			}
		})
	}
}
