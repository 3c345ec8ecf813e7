package t5

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/tensor"
)

// maxDistanceGGUF is the relative_attention_max_distance that llama.cpp computes
// with, whatever the model: there is no key for it.
const maxDistanceGGUF = 128

func (c *Config) arch() string {
	if c.encoderOnly {
		return "t5encoder"
	}
	return "t5"
}

// GGUFNames implements model.Family.
func (family) GGUFNames(config json.RawMessage) (*model.Names, error) {
	c, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	n := &model.Names{Arch: c.arch(), ToGGUF: map[string]string{}, ToHF: map[string]string{}}
	add := func(hf, gguf string) { n.ToGGUF[hf], n.ToHF[gguf] = gguf, hf }
	add(sharedEmbedding, "token_embd")
	for _, s := range c.sides() {
		for _, m := range c.modules(s) {
			add(m.hf, m.gguf)
		}
	}
	if !c.encoderOnly {
		add(head, "output")
	}
	return n, nil
}

// GGUFMeta implements model.Family. Keys and order are those of
// convert_hf_to_gguf.py. llama.cpp takes the activation from the presence of a
// gate: ReLU without, GELU with one.
func (family) GGUFMeta(ck *model.Checkpoint) (formats.Meta, []model.Entry, error) {
	if ck.Source.Naming == formats.GGUF {
		return slices.Clone(ck.Source.Meta), nil, nil
	}
	c, err := parseConfig(ck.Config)
	if err != nil {
		return nil, nil, err
	}
	if want := map[bool]string{true: "gelu_new", false: "relu"}[c.gated]; c.act.Name != want {
		return nil, nil, fmt.Errorf("feed_forward_proj %q with activation %s in GGUF: %w: llama.cpp computes relu and gated-gelu", c.FeedForward, c.act.Name, model.ErrUnsupported)
	}
	if c.MaxDistance != maxDistanceGGUF {
		return nil, nil, fmt.Errorf("relative_attention_max_distance %d in GGUF: %w: llama.cpp computes %d", c.MaxDistance, model.ErrUnsupported, maxDistanceGGUF)
	}
	if c.scaled() == c.gated {
		return nil, nil, fmt.Errorf("scale_decoder_outputs %v with feed_forward_proj %q in GGUF: %w: there is no key for it, and models without a gate scale, those with one do not", c.scaled(), c.FeedForward, model.ErrUnsupported)
	}
	if ck.Tensor(model.PooledOut+".weight") != nil {
		return nil, nil, fmt.Errorf("classification_head in GGUF: %w: llama.cpp's t5 has no classifier", model.ErrUnsupported)
	}
	arch := c.arch()
	m := formats.Meta{
		{Key: "general.architecture", Value: arch},
		{Key: "general.type", Value: "model"},
		{Key: arch + ".context_length", Value: uint32(c.NPositions)},
		{Key: arch + ".embedding_length", Value: uint32(c.DModel)},
		{Key: arch + ".feed_forward_length", Value: uint32(c.DFF)},
		{Key: arch + ".block_count", Value: uint32(c.NumLayers)},
	}
	if !c.encoderOnly {
		m.Set(arch+".decoder_block_count", uint32(*c.NumDecoderLayers))
	}
	m.Set(arch+".attention.head_count", uint32(c.NumHeads))
	m.Set(arch+".attention.key_length", uint32(c.DKV))
	m.Set(arch+".attention.value_length", uint32(c.DKV))
	m.Set(arch+".attention.layer_norm_epsilon", float32(c.Eps))
	m.Set(arch+".attention.relative_buckets_count", uint32(c.Buckets))
	m.Set(arch+".attention.layer_norm_rms_epsilon", float32(c.Eps))
	if start := c.Start; !c.encoderOnly {
		if start == nil {
			start = c.PAD
		}
		if start != nil && *start >= 0 {
			m.Set(arch+".decoder_start_token_id", uint32(*start))
		}
	}
	return m, nil, nil
}

// configFromGGUF writes the config.json that corresponds to GGUF metadata. What
// GGUF does not say follows from the tensors: without a gate it is the first
// version, with ReLU and a scaled output, with one a later version, with GELU.
func configFromGGUF(m *formats.Model) (json.RawMessage, error) {
	arch := m.Meta.Str("general.architecture")
	if err := model.CheckMeta(m, arch, family{}.Keys(formats.GGUF)); err != nil {
		return nil, err
	}
	named := func(name string) *tensor.Tensor {
		for _, t := range m.Tensors {
			if t.Name == name {
				return t
			}
		}
		return nil
	}
	var missing error
	num := func(key string) int64 {
		v, ok := m.Meta.Int(arch + "." + key)
		if !ok && missing == nil {
			missing = fmt.Errorf("%s: metadata key %s.%s is missing or no integer: %w", m.Path, arch, key, model.ErrMismatch)
		}
		return v
	}
	eps, ok := m.Meta.Float(arch + ".attention.layer_norm_rms_epsilon")
	if !ok {
		return nil, fmt.Errorf("%s: metadata key %s.attention.layer_norm_rms_epsilon is missing: %w", m.Path, arch, model.ErrMismatch)
	}
	embed := named("token_embd.weight")
	if embed == nil || len(embed.Shape) != 2 {
		return nil, fmt.Errorf("%s: token_embd.weight is missing or no matrix: %w", m.Path, model.ErrMismatch)
	}
	class, ff := "T5ForConditionalGeneration", "relu"
	if arch == "t5encoder" {
		class = encoderClass
	}
	gated := named("enc.blk.0.ffn_gate.weight") != nil
	if gated {
		ff = "gated-gelu"
	}
	// A file may hold a copy of the input embedding.
	out := named("output.weight")
	tied := out == nil || out.Type == embed.Type && bytes.Equal(out.Data, embed.Data)

	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"architectures\": [%q],\n  \"model_type\": \"t5\"", class)
	put := func(key string, v any) {
		j, _ := json.Marshal(v)
		fmt.Fprintf(&b, ",\n  %q: %s", key, j)
	}
	put("d_ff", num("feed_forward_length"))
	put("d_kv", num("attention.key_length"))
	put("d_model", num("embedding_length"))
	if start, ok := m.Meta.Int(arch + ".decoder_start_token_id"); ok {
		put("decoder_start_token_id", start)
	}
	put("dropout_rate", 0.1)
	if id, ok := m.Meta.Int("tokenizer.ggml.eos_token_id"); ok {
		put("eos_token_id", id)
	}
	put("feed_forward_proj", ff)
	put("is_encoder_decoder", arch == "t5")
	put("layer_norm_epsilon", json.RawMessage(strconv.FormatFloat(eps, 'g', -1, 32)))
	put("n_positions", num("context_length"))
	layers := num("block_count")
	put("num_layers", layers)
	if arch == "t5" {
		decoder, ok := m.Meta.Int(arch + ".decoder_block_count")
		if !ok {
			decoder = layers
		}
		put("num_decoder_layers", decoder)
	}
	put("num_heads", num("attention.head_count"))
	if id, ok := m.Meta.Int("tokenizer.ggml.padding_token_id"); ok {
		put("pad_token_id", id)
	}
	put("relative_attention_max_distance", maxDistanceGGUF)
	put("relative_attention_num_buckets", num("attention.relative_buckets_count"))
	if tied == gated {
		put("scale_decoder_outputs", !gated)
	}
	put("tie_word_embeddings", tied)
	put("use_cache", true)
	put("vocab_size", embed.Shape[0])
	b.WriteString("\n}\n")
	return b.Bytes(), missing
}

// Keys implements model.Keyed.
func (family) Keys(naming formats.Naming) []model.Key {
	if naming != formats.GGUF {
		return nil
	}
	return slices.Concat(decoder.BaseKeys(), decoder.Without(decoder.RopeKeys(false)), []model.Key{
		{Name: "attention.layer_norm_rms_epsilon", Effect: model.Used, Kind: "float32", Why: "what is added to mean squares"},
		{Name: "attention.relative_buckets_count", Effect: model.Used, Kind: "uint32", Why: "the buckets of distances"},
		{Name: "decoder_block_count", Effect: model.Used, Kind: "uint32", Why: "the number of layers of the decoder"},
		{Name: "decoder_start_token_id", Effect: model.Used, Kind: "uint32", Why: "what an answer begins with"},
	})
}
