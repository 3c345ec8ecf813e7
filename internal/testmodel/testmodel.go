// Package testmodel makes small seeded Llama models in memory, for tests of
// everything that takes a model.
package testmodel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// Source makes one and the same model each time.
type Source interface{ HF() *formats.Model }

// Config is the geometry of a Llama model; Default is one with grouped heads.
type Config struct {
	Hidden, FFN, Layers, Heads, KVHeads, HeadDim, Vocab int
	Untied, Bias                                        bool
	Seed                                                uint64
}

// Default is 2 layers of 32 features with 4 query and 2 key/value heads and 48 tokens.
func Default() Config {
	return Config{Hidden: 32, FFN: 64, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8, Vocab: 48, Seed: 1}
}

// HF returns the model as an opened Hugging Face folder in float32.
func (c Config) HF() *formats.Model {
	rng := rand.New(rand.NewPCG(c.Seed, 7))
	m := &formats.Model{Path: "testmodel", Format: "memory", Naming: formats.HF}
	add := func(name string, mean, sigma float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(mean + sigma*rng.NormFloat64())
		}
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, shape, v))
	}
	add("model.embed_tokens.weight", 0, 0.5, c.Vocab, c.Hidden)
	for l := range c.Layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", 1, 0.1, c.Hidden)
		add(p+"post_attention_layernorm.weight", 1, 0.1, c.Hidden)
		for _, w := range []struct {
			name    string
			out, in int
		}{
			{"self_attn.q_proj", c.Heads * c.HeadDim, c.Hidden}, {"self_attn.k_proj", c.KVHeads * c.HeadDim, c.Hidden},
			{"self_attn.v_proj", c.KVHeads * c.HeadDim, c.Hidden}, {"self_attn.o_proj", c.Hidden, c.Heads * c.HeadDim},
			{"mlp.gate_proj", c.FFN, c.Hidden}, {"mlp.up_proj", c.FFN, c.Hidden}, {"mlp.down_proj", c.Hidden, c.FFN},
		} {
			add(p+w.name+".weight", 0, 0.2, w.out, w.in)
			if c.Bias {
				add(p+w.name+".bias", 0, 0.2, w.out)
			}
		}
	}
	add("model.norm.weight", 1, 0.1, c.Hidden)
	if c.Untied {
		add("lm_head.weight", 0, 0.3, c.Vocab, c.Hidden)
	}
	raw, err := json.Marshal(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu",
		"hidden_size": c.Hidden, "intermediate_size": c.FFN, "num_hidden_layers": c.Layers,
		"num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads, "head_dim": c.HeadDim,
		"vocab_size": c.Vocab, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
		"tie_word_embeddings": !c.Untied, "attention_bias": c.Bias, "mlp_bias": c.Bias,
	})
	if err != nil {
		panic("testmodel: " + err.Error())
	}
	m.Config = raw
	return m
}
