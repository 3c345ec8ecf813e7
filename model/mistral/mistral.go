// Package mistral is the Mistral family of decoder-only models
// (MistralForCausalLM): Llama's network with attention to a sliding window.
//
// GGUF files of Mistral models have general.architecture = llama and are opened as
// Llama. Some have llama.attention.sliding_window, which peftkit writes, too, where a
// model has a window; llama.cpp does not read it there and attends to everything,
// and so does peftkit.
package mistral

import (
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/model/llama"
	"github.com/peftkit/peftkit/nn"
)

func init() { model.Register(family) }

const windowKey = "llama.attention.sliding_window"

var family = &decoder.Family{
	Model: "mistral", Class: "Mistral", Arch: "llama", StoresHeadDim: true,
	Activations: []string{nn.SiLU.Name}, RopeTypes: decoder.CommonRopes(),
	Defaults: func(c *decoder.Config) {
		c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 32000, 4096, 14336, 32, 32
		c.NumKeyValueHeads = decoder.Ptr(8)
		c.MaxPositionEmbeddings = 4096 * 32
		c.SlidingWindow = decoder.Ptr(4096)
	},
	Derive: func(c *decoder.Config) error {
		c.Variant = decoder.Variant{Interleaved: true}
		c.LayerTypes = nil // transformers' Mistral has one kind of layer
		return c.WindowsByType(func(int) bool { return c.SlidingWindow != nil })
	},
	// In GGUF there is one architecture for both, and it has no window.
	MatchGGUF: func(*formats.Model) bool { return false },
	ToGGUF: func(c *decoder.Config) formats.Meta {
		m := llama.Meta(c)
		if c.SlidingWindow != nil {
			m.Set(windowKey, uint32(*c.SlidingWindow))
		}
		return m
	},
}
