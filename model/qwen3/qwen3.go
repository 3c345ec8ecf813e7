// Package qwen3 is the family of the dense Qwen 3 models (Qwen3ForCausalLM):
// Llama's network with norms on every head of queries and keys.
package qwen3

import (
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/model/qwen2"
	"github.com/peftkit/peftkit/nn"
)

func init() { model.Register(family) }

var family = &decoder.Family{
	Model: "qwen3", Class: "Qwen3", Arch: "qwen3",
	Activations: []string{nn.SiLU.Name}, RopeTypes: decoder.CommonRopes(),
	Defaults: func(c *decoder.Config) {
		qwen2.Defaults(c)
		c.HeadDim = decoder.Ptr(128)
	},
	Derive: func(c *decoder.Config) error {
		c.Variant = decoder.Variant{QKVBias: c.AttentionBias, OutBias: c.AttentionBias, QKNorm: true}
		return qwen2.Windows(c)
	},
	FromGGUF: func(_ *formats.Model, o decoder.Object) error {
		delete(o, "mlp_bias")
		o["use_sliding_window"] = false
		return nil
	},
	ToGGUF: func(c *decoder.Config) formats.Meta { return qwen2.Meta("qwen3", c) },
}
