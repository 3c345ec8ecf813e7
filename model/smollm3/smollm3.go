// Package smollm3 is SmolLM3 (SmolLM3ForCausalLM): Llama's network in which some
// layers do not rotate queries and keys.
package smollm3

import (
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/model/llama"
	"github.com/peftkit/peftkit/nn"
)

func init() { model.Register(family) }

var family = &decoder.Family{
	Model: "smollm3", Class: "SmolLM3", Arch: "smollm3",
	Activations: []string{nn.SiLU.Name}, RopeTypes: decoder.CommonRopes(),
	Defaults: func(c *decoder.Config) {
		c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 128256, 2048, 11008, 36, 16
		c.NumKeyValueHeads = decoder.Ptr(4)
		c.MaxPositionEmbeddings, c.RopeTheta = 32768, 2000000
		c.NoRopeLayerInterval, c.TieWordEmbeddings = 4, true
		c.PadTokenID = decoder.Ptr(int32(128004))
	},
	Derive: derive,
	FromGGUF: func(_ *formats.Model, o decoder.Object) error {
		o["no_rope_layer_interval"] = 4 // llama.cpp knows no other
		return nil
	},
	ToGGUF: func(c *decoder.Config) formats.Meta {
		m := llama.Meta(c)
		for i := range m {
			if m[i].Key == "general.architecture" {
				m[i].Value = "smollm3"
			} else if rest, ok := cut(m[i].Key); ok {
				m[i].Key = "smollm3." + rest
			}
		}
		return m
	},
	CheckGGUF: func(c *decoder.Config) error {
		for l, none := range c.Variant.NoRope {
			if none != ((l+1)%4 == 0) {
				return fmt.Errorf("no_rope_layers: GGUF files of SmolLM3 leave out every fourth layer's rotation and no other: %w", model.ErrUnsupported)
			}
		}
		if c.Variant.Windows != nil {
			return fmt.Errorf("sliding_window: GGUF files of SmolLM3 have no place for it: %w", model.ErrUnsupported)
		}
		return nil
	},
}

func cut(key string) (string, bool) {
	const prefix = "llama."
	if len(key) > len(prefix) && key[:len(prefix)] == prefix {
		return key[len(prefix):], true
	}
	return "", false
}

func derive(c *decoder.Config) error {
	c.Variant = decoder.Variant{QKVBias: c.AttentionBias, OutBias: c.AttentionBias, MLPBias: c.MLPBias, Interleaved: true}
	c.Variant.NoRope = make([]bool, c.NumHiddenLayers)
	if c.NoRopeLayers != nil && len(c.NoRopeLayers) < c.NumHiddenLayers {
		return fmt.Errorf("config: %d no_rope_layers for %d layers: %w", len(c.NoRopeLayers), c.NumHiddenLayers, model.ErrMismatch)
	}
	if c.NoRopeLayers == nil && c.NoRopeLayerInterval < 1 {
		return fmt.Errorf("config: no_rope_layer_interval %d, expected 1 or more: %w", c.NoRopeLayerInterval, model.ErrMismatch)
	}
	for l := range c.Variant.NoRope {
		if c.NoRopeLayers != nil {
			c.Variant.NoRope[l] = c.NoRopeLayers[l] == 0
		} else {
			c.Variant.NoRope[l] = (l+1)%c.NoRopeLayerInterval == 0
		}
	}
	return c.WindowsByType(func(l int) bool {
		return c.UseSlidingWindow && c.SlidingWindow != nil && c.Variant.NoRope[l]
	})
}
