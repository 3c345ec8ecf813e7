package chat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Templates that do not write an answer behind their own generation prompt.
func TestSeams(t *testing.T) {
	user, says := Message{Role: "user", Content: "Why?"}, Message{Role: "assistant", Content: "So."}
	for name, c := range map[string]struct {
		source, before, answer string
		msgs                   []Message
	}{
		"the system prompt stands in the last turn": {
			"{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[I]{{ messages[0].content + '|' if loop.last else '' }}{{ m.content }}[/I]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
			"[I]Be.|Why?[/I]", "So.</s>", []Message{{Role: "system", Content: "Be."}, user, says},
		},
		"the prompt ends a thought, and there is one": {
			"{% for m in messages %}{% if m.role == 'user' %}U{{ m.content }}\n{% else %}A<think>\n{{ m.reasoning_content }}\n</think>\n\n{{ m.content }}</s>\n{% endif %}{% endfor %}{% if add_generation_prompt %}A<think>\n{% if not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}",
			"UWhy?\nA<think>\n", "Hm.\n</think>\n\nSo.</s>", []Message{user, says.thinking("Hm.")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := New(c.source, "", "</s>")
			require.NoError(t, err)
			seqs, err := tmpl.Sequences(Talk(c.msgs...), all)
			require.NoError(t, err)
			require.Len(t, seqs, 1)
			a := seqs[0].Answers[0]
			require.Equal(t, c.before, seqs[0].Text[:a.Start])
			require.Equal(t, c.answer, seqs[0].Text[a.Start:a.End])
		})
	}
}
