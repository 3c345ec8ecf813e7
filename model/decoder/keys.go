package decoder

import (
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
)

// BaseKeys are the keys of metadata that llama.cpp reads whatever the architecture
// (load_hparams), and what they do to a decoder without rotary positions.
func BaseKeys() []model.Key {
	return []model.Key{
		{Name: "context_length", Effect: model.Used, Kind: "uint32", Why: "the longest text; what yarn and tables of positions go by"},
		{Name: "embedding_length", Effect: model.Used, Kind: "uint32", Why: "a size of tensors"},
		{Name: "block_count", Effect: model.Used, Kind: "uint32", Why: "the number of layers"},
		{Name: "feed_forward_length", Effect: model.Used, Kind: "uint32", List: true, Why: "a size of tensors"},
		{Name: "attention.head_count", Effect: model.Used, Kind: "uint32", List: true, Why: "how rows are split into heads"},
		{Name: "attention.head_count_kv", Effect: model.Used, Kind: "uint32", List: true, Why: "a size of tensors"},
		{Name: "attention.key_length", Effect: model.Used, Kind: "uint32", Why: "a size of tensors"},
		{Name: "attention.value_length", Effect: model.Used, Kind: "uint32", Why: "a size of tensors; it must be key_length"},
		{Name: "attention.causal", Effect: model.Refused, Kind: "bool", Neutral: []any{true}, Why: "llama.cpp would attend to later tokens, too; decoders are computed with earlier ones only"},
		{Name: "expert_count", Effect: model.Refused, Kind: "uint32", Neutral: zeros, Why: "mixtures of experts are not computed"},
		{Name: "expert_used_count", Effect: model.Refused, Kind: "uint32", List: true, Neutral: zeros, Why: "mixtures of experts are not computed"},
		{Name: "expert_group_count", Effect: model.Refused, Kind: "uint32", Neutral: zeros, Why: "mixtures of experts are not computed"},
		{Name: "expert_group_used_count", Effect: model.WithoutEffect, Kind: "uint32", Why: "of mixtures of experts"},
		{Name: "nextn_predict_layers", Effect: model.Refused, Kind: "uint32", Neutral: zeros, Why: "the last layers would predict tokens further ahead, which is not computed"},
		{Name: "embedding_length_out", Effect: model.WithoutEffect, Kind: "uint32", Why: "a size of output embeddings, which logits do not go through"},
		{Name: "pooling_type", Effect: model.WithoutEffect, Kind: "uint32", Why: "pooling of embeddings; logits are per token"},
		{Name: "rope.scaling.finetuned", Effect: model.WithoutEffect, Kind: "bool", Why: "read and shown by llama.cpp, not computed with"},
		{Name: "rope.scaling.alpha", Effect: model.WithoutEffect, Kind: "float32", Why: "computed with for Hunyuan only"},
	}
}

var zeros = []any{uint32(0), int32(0), uint64(0), int64(0)}

// RopeKeys are the keys of rotary positions. swa says that the architecture has
// layers with a window of their own.
func RopeKeys(swa bool) []model.Key {
	keys := []model.Key{
		{Name: "rope.freq_base", Effect: model.Used, Kind: "float32", Why: "the base of the frequencies; 10000 without the key"},
		{Name: "rope.dimension_count", Effect: model.Used, Kind: "uint32", Why: "the features of a head that turn"},
		{Name: "rope.scaling.type", Effect: model.Used, Kind: "string", Why: "none, linear, yarn or longrope; linear without the key"},
		{Name: "rope.scaling.factor", Effect: model.Used, Kind: "float32", Why: "divides the frequencies; 0 is none"},
		{Name: "rope.scale_linear", Effect: model.Used, Kind: "float32", Why: "the old name of rope.scaling.factor, read where that is not there"},
		{Name: "rope.scaling.attn_factor", Effect: model.Used, Kind: "float32", Why: "multiplies cosines and sines"},
		{Name: "rope.scaling.original_context_length", Effect: model.Used, Kind: "uint32", Why: "what yarn and longrope count from; context_length without the key"},
	}
	for _, name := range []string{"attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"} {
		k := model.Key{Name: name, Effect: model.WithoutEffect, Kind: "uint32", Why: "of layers with a window, which llama.cpp's network does not have here"}
		if swa {
			k.Effect, k.Why = model.Used, "must be what full attention has"
		}
		keys = append(keys, k)
	}
	return keys
}

// Without are read by llama.cpp for every architecture and do nothing in those
// without rotary positions.
func Without(keys []model.Key) []model.Key {
	out := slices.Clone(keys)
	for i := range out {
		if out[i].Name != "rope.scaling.type" { // an unknown word stops llama.cpp
			out[i].Effect = model.WithoutEffect
		}
		out[i].Why = "the architecture has no rotary positions"
	}
	return slices.DeleteFunc(out, func(k model.Key) bool { return k.Name == "rope.scaling.type" })
}

// Keys implements model.Keyed.
func (f *Family) Keys(naming formats.Naming) []model.Key {
	if naming != formats.GGUF {
		return f.configKeys()
	}
	keys := slices.Concat(BaseKeys(), RopeKeys(f.Windowed),
		[]model.Key{{Name: "attention.layer_norm_rms_epsilon", Effect: model.Used, Kind: "float32", Why: "what is added to mean squares"}}, f.GGUFKeys)
	return keys
}
