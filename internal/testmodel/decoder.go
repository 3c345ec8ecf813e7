package testmodel

import (
	"fmt"
	"maps"
)

// The decoder-only models have 2 layers of 32 features, 4 query heads and 48
// tokens; 1 begins and 2 ends a text.

// GPT2 is a small GPT2LMHeadModel: Conv1D, fused queries, keys and values, biases,
// layer norms, learned positions.
func GPT2() Source {
	s := Seeded{
		Config: map[string]any{
			"architectures": []string{"GPT2LMHeadModel"}, "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4,
			"n_positions": 64, "vocab_size": 48, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": true,
		},
		Tensors: map[string][]int{"transformer.wte.weight": {48, 32}, "transformer.wpe.weight": {64, 32}},
	}
	add := func(name string, shape ...int) {
		s.Tensors[name+".weight"], s.Tensors[name+".bias"] = shape, shape[len(shape)-1:]
	}
	for l := range 2 {
		p := fmt.Sprintf("transformer.h.%d.", l)
		add(p+"ln_1", 32)
		add(p+"attn.c_attn", 32, 96)
		add(p+"attn.c_proj", 32, 32)
		add(p+"ln_2", 32)
		add(p+"mlp.c_fc", 32, 128)
		add(p+"mlp.c_proj", 128, 32)
	}
	add("transformer.ln_f", 32)
	return s
}

// Qwen2 is a small Qwen2ForCausalLM: biases on queries, keys and values.
func Qwen2() Source {
	s := llamaLike("Qwen2ForCausalLM", "qwen2", 8, nil)
	for l := range 2 {
		for name, n := range map[string]int{"q_proj": 32, "k_proj": 16, "v_proj": 16} {
			s.Tensors[fmt.Sprintf("model.layers.%d.self_attn.%s.bias", l, name)] = []int{n}
		}
	}
	return s
}

// Qwen3 is a small Qwen3ForCausalLM: norms of queries and keys, heads of 16
// features, an output embedding of its own.
func Qwen3() Source {
	s := llamaLike("Qwen3ForCausalLM", "qwen3", 16, map[string]any{"tie_word_embeddings": false})
	for l := range 2 {
		p := fmt.Sprintf("model.layers.%d.self_attn.", l)
		s.Tensors[p+"q_norm.weight"], s.Tensors[p+"k_norm.weight"] = []int{16}, []int{16}
	}
	s.Tensors["lm_head.weight"] = []int{48, 32}
	return s
}

// Gemma2 is a small Gemma2ForCausalLM: norms of one plus their weight before and
// after each block, soft caps, a window of 4 in the first layer.
func Gemma2() Source {
	s := llamaLike("Gemma2ForCausalLM", "gemma2", 16, map[string]any{
		"sliding_window": 4, "query_pre_attn_scalar": 16, "hidden_activation": "gelu_pytorch_tanh",
		"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
	})
	delete(s.Config, "hidden_act")
	for l := range 2 {
		p := fmt.Sprintf("model.layers.%d.", l)
		s.Tensors[p+"pre_feedforward_layernorm.weight"], s.Tensors[p+"post_feedforward_layernorm.weight"] = []int{32}, []int{32}
	}
	return s
}

// Phi3 is a small Phi3ForCausalLM: single layers for queries, keys and values and
// for both halves of the feed-forward block.
func Phi3() Source {
	s := llamaLike("Phi3ForCausalLM", "phi3", 8, map[string]any{"original_max_position_embeddings": 64, "tie_word_embeddings": false})
	delete(s.Config, "head_dim")
	s.Tensors["lm_head.weight"] = []int{48, 32}
	for l := range 2 {
		p := fmt.Sprintf("model.layers.%d.", l)
		for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"} {
			delete(s.Tensors, p+name+".weight")
		}
		s.Tensors[p+"self_attn.qkv_proj.weight"], s.Tensors[p+"mlp.gate_up_proj.weight"] = []int{64, 32}, []int{128, 32}
	}
	return s
}

// llamaLike is a model with the names of Llama's, 2 key/value heads and tied
// embeddings.
func llamaLike(class, kind string, headDim int, config map[string]any) Seeded {
	s := Seeded{
		Config: map[string]any{
			"architectures": []string{class}, "model_type": kind, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 64,
			"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": headDim, "vocab_size": 48,
			"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 64, "tie_word_embeddings": true,
			"bos_token_id": 1, "eos_token_id": 2,
		},
		Tensors: map[string][]int{"model.embed_tokens.weight": {48, 32}, "model.norm.weight": {32}},
	}
	maps.Copy(s.Config, config)
	for l := range 2 {
		p := fmt.Sprintf("model.layers.%d.", l)
		maps.Copy(s.Tensors, map[string][]int{
			p + "self_attn.q_proj.weight": {4 * headDim, 32}, p + "self_attn.k_proj.weight": {2 * headDim, 32},
			p + "self_attn.v_proj.weight": {2 * headDim, 32}, p + "self_attn.o_proj.weight": {32, 4 * headDim},
			p + "mlp.gate_proj.weight": {64, 32}, p + "mlp.up_proj.weight": {64, 32}, p + "mlp.down_proj.weight": {32, 64},
			p + "input_layernorm.weight": {32}, p + "post_attention_layernorm.weight": {32},
		})
	}
	return s
}
