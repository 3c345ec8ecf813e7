package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tokenizer"
)

// blank reports a configuration value that says nothing.
func blank(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case bool:
		return !x
	case string:
		return x == ""
	case []any:
		return len(x) == 0
	case map[string]any:
		return len(x) == 0
	}
	return false
}

// fact records one thing for people and programs.
func (i *inspection) fact(label, key string, v any) {
	if blank(v) {
		return
	}
	i.Facts[key] = v
	i.facts = append(i.facts, [2]string{label, valueText(v)})
}

// finish counts what the tensors are made of.
func (i *inspection) finish(files []string) {
	i.Files = len(files)
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			i.Bytes += st.Size()
		}
	}
	var bits int64
	byType := map[string]*typeCount{}
	for _, t := range i.raw {
		c := byType[t.Type.Name]
		if c == nil {
			c = &typeCount{Type: t.Type.Name}
			byType[t.Type.Name] = c
		}
		n := t.Elements()
		c.Tensors++
		c.Parameters += n
		c.Bytes += int64(len(t.Data))
		i.Parameters += n
		bits += 8 * int64(len(t.Data))
		i.Tensors = append(i.Tensors, tensorEntry{Name: t.Name, Type: t.Type.Name, Shape: t.Shape, Bytes: int64(len(t.Data)), Offset: t.Offset, File: filepath.Base(t.File)})
	}
	for _, c := range byType {
		i.Types = append(i.Types, *c)
	}
	slices.SortFunc(i.Types, func(a, b typeCount) int {
		if a.Bytes != b.Bytes {
			return int(max(-1, min(1, b.Bytes-a.Bytes)))
		}
		return strings.Compare(a.Type, b.Type)
	})
	if i.Parameters > 0 {
		i.BitsPerWeight = float64(bits) / float64(i.Parameters)
	}
	for _, kv := range i.meta {
		e := metaEntry{Key: kv.Key, Type: metaType(kv.Value), Value: kv.Value}
		if n, ok := arrayLen(kv.Value); ok && n > 16 {
			e.Value, e.Length = nil, n
		}
		i.Metadata = append(i.Metadata, e)
	}
}

// modelFacts collects the architecture from the Hugging Face configuration (as
// read, or as the family made it from GGUF), or from GGUF keys alone.
func (i *inspection) modelFacts(m *formats.Model, config json.RawMessage) {
	c := map[string]any{}
	if config != nil {
		_ = json.Unmarshal(config, &c) // a config.json that is no object has no facts
	}
	arch := m.Meta.Str("general.architecture")
	number := func(hf, gguf string) (int64, bool) {
		if v, ok := c[hf].(float64); ok {
			return int64(v), true
		}
		return m.Meta.Int(arch + "." + gguf)
	}
	i.fact("name", "general.name", m.Meta.Str("general.name"))
	i.fact("licence", "general.license", m.Meta.Str("general.license"))
	if arch == "" {
		arch, _ = c["model_type"].(string)
	}
	var parts []string
	for _, p := range []struct{ hf, gguf, text string }{
		{"num_hidden_layers", "block_count", "%d layers"}, {"hidden_size", "embedding_length", "hidden %d"},
		{"intermediate_size", "feed_forward_length", "feed-forward %d"}, {"num_attention_heads", "attention.head_count", "%d heads"},
		{"num_key_value_heads", "attention.head_count_kv", "%d key/value heads"}, {"vocab_size", "vocab_size", "vocabulary %d"},
	} {
		if v, ok := number(p.hf, p.gguf); ok {
			i.Facts[p.hf] = v
			parts = append(parts, fmt.Sprintf(p.text, v))
		}
	}
	if len(parts) > 0 {
		i.facts = append(i.facts, [2]string{"network", strings.Join(parts, ", ")})
	}
	if v, ok := number("max_position_embeddings", "context_length"); ok {
		i.Facts["max_position_embeddings"] = v
		i.facts = append(i.facts, [2]string{"context", fmt.Sprintf("%d tokens", v)})
	}
	i.Facts["architecture"] = arch
	if text := i.tokenizerFact(m); text != "" {
		i.facts = append(i.facts, [2]string{"tokenizer", text})
	}
}

func (i *inspection) tokenizerFact(m *formats.Model) string {
	var parts []string
	switch {
	case m.Meta.Str("tokenizer.ggml.model") != "":
		parts = append(parts, m.Meta.Str("tokenizer.ggml.model"))
		if pre := m.Meta.Str("tokenizer.ggml.pre"); pre != "" {
			parts = append(parts, "pre "+pre)
		}
		if n, ok := arrayLen(m.Meta.Get("tokenizer.ggml.tokens")); ok {
			parts = append(parts, fmt.Sprintf("%d tokens", n))
		}
	case m.Files["tokenizer.json"] != nil:
		parts = append(parts, "tokenizer.json")
	default:
		return "none"
	}
	text, others := tokenizer.Templates(m)
	i.Facts["chat_template"] = text != ""
	chat := map[bool]string{true: "chat template", false: "no chat template"}[text != ""]
	if len(others) > 0 {
		i.Facts["chat_templates"] = others
		chat += ", others: " + strings.Join(others, ", ")
	}
	return strings.Join(append(parts, chat), ", ")
}
