package tokenizer

import (
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/stretchr/testify/require"
)

// smallJSON is a tokenizer of one token.
const smallJSON = `{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"decoder":{"type":"ByteLevel"}}`

func TestNamedTemplates(t *testing.T) {
	type templates struct{ usual, tools, rag string }
	const list = `{"chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"D"},{"name":"rag","template":"R"}]}`
	for name, c := range map[string]struct {
		files map[string]string
		want  templates
	}{
		"none":               {nil, templates{}},
		"one":                {map[string]string{"tokenizer_config.json": `{"chat_template":"D"}`}, templates{"D", "D", ""}},
		"a list":             {map[string]string{"tokenizer_config.json": list}, templates{"D", "T", "R"}},
		"a list, no default": {map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"rag","template":"R"}]}`}, templates{"R", "R", "R"}},
		"files": {map[string]string{"chat_template.jinja": "D", "additional_chat_templates/tool_use.jinja": "T", "additional_chat_templates/rag.jinja": "R",
			"tokenizer_config.json": `{"chat_template":"old"}`}, templates{"D", "T", "R"}},
		"a file goes before the list":   {map[string]string{"chat_template.jinja": "D", "tokenizer_config.json": list}, templates{"D", "D", ""}},
		"files of other names are none": {map[string]string{"chat_template.jinja": "D", "additional_chat_templates/a/tool_use.jinja": "T", "additional_chat_templates/tool_use.txt": "T"}, templates{"D", "D", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{"tokenizer.json": []byte(smallJSON)}
			for n, s := range c.files {
				files[n] = []byte(s)
			}
			tok, err := FromFiles(files)
			require.NoError(t, err)
			of := func(tok *Tokenizer) templates {
				return templates{tok.ChatTemplate(), tok.ToolTemplate(), tok.NamedTemplate("rag")}
			}
			require.Equal(t, c.want, of(tok))
			require.Equal(t, c.want.usual, tok.NamedTemplate("default"))

			kv := formats.Meta{}
			tok.templateEntries(&kv)
			back := &Tokenizer{}
			back.template = kv.Str("tokenizer.chat_template")
			back.namedInGGUF(kv)
			require.Equal(t, c.want, of(back))
		})
	}
}
