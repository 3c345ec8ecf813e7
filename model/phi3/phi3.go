// Package phi3 is the family of the dense Phi-3, Phi-3.5 and Phi-4 models
// (Phi3ForCausalLM): Llama's network with single layers for queries, keys and
// values and for the two halves of the feed-forward block, and longrope for
// contexts beyond the original one.
package phi3

import (
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
)

func init() { model.Register(family) }

var family = &decoder.Family{
	Model: "phi3", Class: "Phi3", Arch: "phi3",
	Activations: []string{nn.SiLU.Name}, RopeTypes: []string{"default", "longrope"}, PartialRotary: true,
	Defaults: func(c *decoder.Config) {
		c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 32064, 3072, 8192, 32, 32
		c.MaxPositionEmbeddings, c.OriginalMaxPositions = 4096, decoder.Ptr(4096)
		c.RMSNormEps, c.PadTokenID = 1e-5, decoder.Ptr(int32(32000))
	},
	Derive: func(c *decoder.Config) error {
		c.Variant = decoder.Variant{FusedQKV: true, FusedMLP: true, ResidDropout: c.ResidDropout}
		if r := c.Rope(); r.Type == "yarn" { // what early files called it
			r.Type = "longrope"
		}
		c.LayerTypes = nil // transformers' Phi-3 has one kind of layer
		if c.SlidingWindow != nil && *c.SlidingWindow == 0 {
			c.SlidingWindow = nil
		}
		return c.WindowsByType(func(int) bool { return c.SlidingWindow != nil })
	},
	FromGGUF: func(m *formats.Model, o decoder.Object) error {
		for _, k := range []string{"attention_bias", "mlp_bias", "head_dim"} {
			delete(o, k)
		}
		if n, ok := m.Meta.Int("phi3.rope.scaling.original_context_length"); ok {
			o["original_max_position_embeddings"] = n
		}
		o["sliding_window"] = nil // llama.cpp reads the key and attends to everything all the same
		return nil
	},
	ToGGUF:   meta,
	GGUFKeys: []model.Key{{Name: "attention.sliding_window", Effect: model.WithoutEffect, Kind: "uint32", Why: "llama.cpp has switched Phi-3's window off"}},
	CheckGGUF: func(c *decoder.Config) error {
		if *c.HeadDim*c.NumAttentionHeads != c.HiddenSize {
			return fmt.Errorf("head_dim %d: Phi-3 in GGUF splits hidden_size %d into %d heads: %w", *c.HeadDim, c.HiddenSize, c.NumAttentionHeads, model.ErrUnsupported)
		}
		return nil
	},
}

// meta returns the metadata in the order of convert_hf_to_gguf.py.
func meta(c *decoder.Config) formats.Meta {
	rope := c.Rope()
	m := formats.Meta{
		{Key: "general.architecture", Value: "phi3"},
		{Key: "general.type", Value: "model"},
		{Key: "phi3.context_length", Value: uint32(c.MaxPositionEmbeddings)},
		{Key: "phi3.rope.scaling.original_context_length", Value: uint32(*c.OriginalMaxPositions)},
		{Key: "phi3.embedding_length", Value: uint32(c.HiddenSize)},
		{Key: "phi3.feed_forward_length", Value: uint32(c.IntermediateSize)},
		{Key: "phi3.block_count", Value: uint32(c.NumHiddenLayers)},
		{Key: "phi3.attention.head_count", Value: uint32(c.NumAttentionHeads)},
		{Key: "phi3.attention.head_count_kv", Value: uint32(*c.NumKeyValueHeads)},
		{Key: "phi3.attention.layer_norm_rms_epsilon", Value: float32(c.RMSNormEps)},
		{Key: "phi3.rope.dimension_count", Value: uint32(c.Rotated())},
		{Key: "phi3.rope.freq_base", Value: float32(c.RopeTheta)},
	}
	window := 0 // llama.cpp tells Phi-4 by it
	if c.SlidingWindow != nil {
		window = *c.SlidingWindow
	}
	m.Set("phi3.attention.sliding_window", uint32(window))
	if rope.Type == "longrope" {
		m.Set("phi3.rope.scaling.attn_factor", float32(rope.LongropeScale(c)))
	}
	return m
}
