// Package qwen2 is the family of Qwen 2 and Qwen 2.5 (Qwen2ForCausalLM): Llama's
// network with biases on queries, keys and values, and a sliding window in the
// upper layers of models that ask for one.
package qwen2

import (
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
)

func init() { model.Register(family) }

var family = &decoder.Family{
	Model: "qwen2", Class: "Qwen2", Arch: "qwen2",
	Activations: []string{nn.SiLU.Name}, RopeTypes: decoder.CommonRopes(),
	Defaults: Defaults,
	Derive: func(c *decoder.Config) error {
		c.Variant = decoder.Variant{QKVBias: true}
		return Windows(c)
	},
	FromGGUF: func(_ *formats.Model, o decoder.Object) error {
		delete(o, "attention_bias")
		delete(o, "mlp_bias")
		o["use_sliding_window"] = false
		return nil
	},
	ToGGUF: func(c *decoder.Config) formats.Meta { return Meta("qwen2", c) },
}

// Defaults presets what Qwen2Config and Qwen3Config have in common.
func Defaults(c *decoder.Config) {
	c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 151936, 4096, 22016, 32, 32
	c.NumKeyValueHeads = decoder.Ptr(32)
	c.MaxPositionEmbeddings = 32768
	c.SlidingWindow, c.MaxWindowLayers = decoder.Ptr(4096), 28
}

// Windows derives the layers with a sliding window.
func Windows(c *decoder.Config) error {
	if !c.UseSlidingWindow {
		c.SlidingWindow = nil
	}
	return c.WindowsByType(func(l int) bool { return c.SlidingWindow != nil && l >= c.MaxWindowLayers })
}

// Meta returns the metadata. llama.cpp's Qwen attends to everything, so the window
// of a model is written for people only.
func Meta(arch string, c *decoder.Config) formats.Meta {
	m := c.Meta(arch)
	if c.Variant.Windows != nil {
		m.Set(arch+".attention.sliding_window", uint32(*c.SlidingWindow))
	}
	return m
}
