package peft

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

var bertPaths = []string{
	"bert.embeddings.word_embeddings.weight",
	"bert.encoder.layer.0.attention.self.query.weight",
	"bert.pooler.dense.weight",
	"classifier.weight",
}

func TestMissingPrefix(t *testing.T) {
	for path, want := range map[string]string{
		"encoder.layer.0.attention.self.query.lora_A.weight": "bert.",
		"pooler.dense.lora_A.weight":                         "bert.",
		"bert.encoder.layer.0.attention.self.query.lora_A":   "",
		"classifier.modules_to_save.weight":                  "",
		"h.0.attn.c_attn.lora_A.weight":                      "", // of another model
		"prompt_embeddings":                                  "",
	} {
		assert.Equal(t, want, missingPrefix(path, bertPaths), path)
	}
}

func TestWithBasePrefixRenamesTensors(t *testing.T) {
	const bare = Prefix + "encoder.layer.0.attention.self.query.lora_A.weight"
	first := &tensor.Tensor{Name: bare}
	other := &tensor.Tensor{Name: "prompt_embeddings"}
	a := &formats.Adapter{Config: json.RawMessage(`{"r":4}`), Tensors: []*tensor.Tensor{first, other}}
	require.NoError(t, withBasePrefix(a, bertPaths))
	assert.Equal(t, Prefix+"bert.encoder.layer.0.attention.self.query.lora_A.weight", a.Tensors[0].Name)
	assert.Equal(t, bare, first.Name, "the file's own tensor keeps its name")
	assert.Same(t, other, a.Tensors[1])

	renamed := a.Tensors[0]
	require.NoError(t, withBasePrefix(a, bertPaths))
	assert.Same(t, renamed, a.Tensors[0], "a second time changes nothing")

	broken := &formats.Adapter{Path: "here", Config: json.RawMessage(`{`), Tensors: []*tensor.Tensor{first}}
	err := withBasePrefix(broken, bertPaths)
	require.ErrorIs(t, err, ErrConfig)
	assert.ErrorContains(t, err, "here: adapter_config.json")
}

func TestPrefixedConfig(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a list names ends", `{"target_modules":["query","value"]}`, `{"target_modules":["query","value"]}`},
		{"all-linear stays", `{"target_modules":"all-linear"}`, `{"target_modules":"all-linear"}`},
		{"an expression matches whole paths", `{"target_modules":"encoder.*query|pooler.dense"}`,
			`{"target_modules":"bert\\.(?:encoder.*query|pooler.dense)"}`},
		{"excluded ones too", `{"exclude_modules":"pooler.*"}`, `{"exclude_modules":"bert\\.(?:pooler.*)"}`},
		{"null stays", `{"target_modules":null}`, `{"target_modules":null}`},
		{"ends and anchors, in order", `{"rank_pattern":{"^pooler.dense":2,"query":3,"layer.0.key":4}}`,
			`{"rank_pattern":{"^bert\\.pooler.dense":2,"query":3,"layer.0.key":4}}`},
		{"AdaLoRA lists whole names", `{"rank_pattern":{"encoder.layer.1.key.lora_E":[true,false],"encoder.layer.0.key.lora_E":[true]}}`,
			`{"rank_pattern":{"bert.encoder.layer.1.key.lora_E":[true,false],"bert.encoder.layer.0.key.lora_E":[true]}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := prefixedConfig(json.RawMessage(c.in), "bert.")
			require.NoError(t, err)
			assert.Equal(t, c.want, string(got))
		})
	}
	for _, bad := range []string{`[]`, `{"target_modules":{}}`, `{`} {
		_, err := prefixedConfig(json.RawMessage(bad), "bert.")
		assert.Error(t, err, bad)
	}
}
