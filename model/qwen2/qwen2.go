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
	FromGGUF: func(m *formats.Model, o decoder.Object) error {
		delete(o, "attention_bias")
		delete(o, "mlp_bias")
		o["use_sliding_window"] = false
		return FromGGUF("qwen2", m, o)
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

// llama.cpp's Qwen attends to everything, so its files have no keys for windows;
// those of peftkit keep them for the way back.
const (
	windowKey = ".attention.sliding_window"
	layersKey = ".attention.sliding_window_layers"
)

// Meta returns the metadata, with the windows that llama.cpp does not read.
func Meta(arch string, c *decoder.Config) formats.Meta {
	m := c.Meta(arch)
	if c.Variant.Windows == nil {
		return m
	}
	layers := make([]bool, c.NumHiddenLayers)
	for l, w := range c.Variant.Windows {
		layers[l] = w > 0
	}
	m.Set(arch+windowKey, uint32(*c.SlidingWindow))
	m.Set(arch+layersKey, layers)
	return m
}

// FromGGUF restores the windows.
func FromGGUF(arch string, m *formats.Model, o decoder.Object) error {
	w, ok := m.Meta.Int(arch + windowKey)
	layers, listed := m.Meta.Get(arch + layersKey).([]bool)
	if !ok || !listed {
		return nil
	}
	var types []string
	for _, sliding := range layers {
		if sliding {
			types = append(types, "sliding_attention")
		} else {
			types = append(types, "full_attention")
		}
	}
	o["use_sliding_window"], o["sliding_window"], o["layer_types"] = true, w, types
	return nil
}
