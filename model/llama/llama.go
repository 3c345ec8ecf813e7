// Package llama is the Llama family of decoder-only models: Llama 1 to 3,
// TinyLlama, SmolLM and SmolLM2, and everything else whose config.json says
// LlamaForCausalLM or whose GGUF says general.architecture = llama.
//
// The network follows transformers' modeling_llama: RMS norm before attention
// and before the gated MLP, rotary positions on halves of a head, grouped
// key/value heads.
package llama

import (
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
)

func init() { model.Register(family) }

var family = &decoder.Family{
	Model: "llama", Class: "Llama", Arch: "llama", StoresHeadDim: true,
	Activations: []string{nn.SiLU.Name}, RopeTypes: decoder.CommonRopes(),
	Derive: func(c *decoder.Config) error {
		c.Variant = decoder.Variant{QKVBias: c.AttentionBias, OutBias: c.AttentionBias, MLPBias: c.MLPBias, Interleaved: true}
		return nil
	},
	ToGGUF: Meta,
}

// Meta returns the metadata of architecture llama. Keys and order are those of
// convert_hf_to_gguf.py.
func Meta(c *decoder.Config) formats.Meta {
	headDim := *c.HeadDim
	m := formats.Meta{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.type", Value: "model"},
		{Key: "llama.block_count", Value: uint32(c.NumHiddenLayers)},
		{Key: "llama.context_length", Value: uint32(c.MaxPositionEmbeddings)},
		{Key: "llama.embedding_length", Value: uint32(c.HiddenSize)},
		{Key: "llama.feed_forward_length", Value: uint32(c.IntermediateSize)},
		{Key: "llama.attention.head_count", Value: uint32(c.NumAttentionHeads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(*c.NumKeyValueHeads)},
		{Key: "llama.rope.freq_base", Value: float32(c.RopeTheta)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(c.RMSNormEps)},
		{Key: "llama.vocab_size", Value: uint32(c.VocabSize)},
		{Key: "llama.rope.dimension_count", Value: uint32(headDim)},
	}
	if headDim*c.NumAttentionHeads != c.HiddenSize {
		m.Set("llama.attention.key_length", uint32(headDim))
		m.Set("llama.attention.value_length", uint32(headDim))
	}
	return m
}
