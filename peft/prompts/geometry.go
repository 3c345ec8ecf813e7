package prompts

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// Geometry are the sizes that a configuration holds beside the method's own
// keys. PEFT takes them from the model when a prompt is made.
type Geometry struct {
	// Tokens is the number of rows, or of keys and values, before a text.
	Tokens int `json:"num_virtual_tokens"`
	// Width is the size of an embedding; of the keys of one layer for prefixes.
	Width int `json:"token_dim"`
	// Submodules is 2 for an encoder-decoder language model, else 1.
	Submodules int `json:"num_transformer_submodules"`
	// Heads are those that share Width in prefixes.
	Heads int `json:"num_attention_heads"`
	// Layers of the first stack.
	Layers int `json:"num_layers"`
}

// Rows is the number of rows of prompt_embeddings for methods that put rows
// before the tokens.
func (g Geometry) Rows() int { return g.Tokens * g.Submodules }

// of returns the geometry that PEFT would take from the model.
func of(m *model.Model, prefix bool) (Geometry, error) {
	if m.Head == nil {
		return Geometry{}, fmt.Errorf("the model has no head, so nothing tells what a prompt should lead to: %w; build it for a task: SEQ_CLS or TOKEN_CLS for an encoder", peft.ErrNoFit)
	}
	if len(m.Inputs) == 0 || len(m.Attentions) == 0 {
		return Geometry{}, fmt.Errorf("the family offers no place for rows before the tokens: %w; methods for linear layers fit, such as lora", peft.ErrNoFit)
	}
	g := Geometry{Submodules: 1, Width: m.Inputs[0].Embedding.W.In}
	if m.Options.Task == model.Seq2SeqLM {
		g.Submodules = 2
	}
	first := m.Attentions[0]
	g.Heads = first.Heads
	for _, a := range m.Attentions {
		if a.Stack == first.Stack && !a.Cross {
			g.Layers++
		}
	}
	if prefix {
		g.Heads, g.Width = first.KVHeads, first.KVHeads*first.HeadDim
	}
	return g, nil
}

// geometry completes what a configuration leaves open and stores it. A size that
// differs from the model's is an error.
func geometry(c *peft.Config, m *model.Model, prefix bool) (Geometry, error) {
	want, err := of(m, prefix)
	if err != nil {
		return want, err
	}
	g := want
	if err := c.Decode(&g); err != nil {
		return g, err
	}
	if g.Tokens < 1 {
		return g, fmt.Errorf("num_virtual_tokens is %d, expected 1 or more: %w", g.Tokens, peft.ErrConfig)
	}
	if g.Submodules != 1 && g.Submodules != want.Submodules {
		return g, fmt.Errorf("num_transformer_submodules is %d, this model has %d: %w", g.Submodules, want.Submodules, peft.ErrTensors)
	}
	for _, k := range []struct {
		key       string
		got, want int
	}{{"token_dim", g.Width, want.Width}, {"num_layers", g.Layers, want.Layers}, {"num_attention_heads", g.Heads, want.Heads}} {
		if k.got != k.want && (prefix || k.key == "token_dim") {
			return g, fmt.Errorf("%s is %d, this model has %d: %w; the prompt is of another model", k.key, k.got, k.want, peft.ErrTensors)
		}
	}
	if g.Tokens >= m.MaxPositions {
		return g, fmt.Errorf("num_virtual_tokens is %d, the model takes %d positions in all: %w", g.Tokens, m.MaxPositions, peft.ErrConfig)
	}
	for key, v := range map[string]int{
		"num_virtual_tokens": g.Tokens, "token_dim": g.Width, "num_transformer_submodules": g.Submodules,
		"num_attention_heads": g.Heads, "num_layers": g.Layers,
	} {
		c.Set(key, v)
	}
	return g, nil
}
