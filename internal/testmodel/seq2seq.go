package testmodel

import "fmt"

// The encoder-decoder models have 2 layers of 32 features on each side, 4 heads
// and 48 tokens; 0 fills up, 1 ends a text, 2 begins the decoder's.

// BART is a small BartForConditionalGeneration with tied embeddings.
func BART() Source { return bart("bart", "BartForConditionalGeneration", "gelu") }

// Marian is a small MarianMTModel with shared embeddings and a bias of logits.
func Marian() Source {
	s := bart("marian", "MarianMTModel", "swish")
	s.Config["scale_embedding"] = true
	s.Tensors["final_logits_bias"] = []int{1, 48}
	return s
}

func bart(kind, class, act string) Seeded {
	s := Seeded{
		Config: map[string]any{
			"architectures": []string{class}, "model_type": kind, "activation_function": act, "d_model": 32, "vocab_size": 48,
			"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
			"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64,
			"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": 1,
			"is_encoder_decoder": true, "tie_word_embeddings": true,
		},
		Tensors: map[string][]int{"model.shared.weight": {48, 32}},
	}
	add := func(name string, shape ...int) {
		s.Tensors[name+".weight"], s.Tensors[name+".bias"] = shape, shape[:1]
	}
	for _, stack := range []string{"encoder", "decoder"} {
		p := "model." + stack + "."
		if kind != "marian" {
			s.Tensors[p+"embed_positions.weight"] = []int{66, 32}
			add(p+"layernorm_embedding", 32)
		}
		for l := range 2 {
			p := fmt.Sprintf("%slayers.%d.", p, l)
			attentions := []string{"self_attn"}
			if stack == "decoder" {
				attentions = append(attentions, "encoder_attn")
			}
			for _, a := range attentions {
				for _, w := range []string{"k_proj", "v_proj", "q_proj", "out_proj"} {
					add(p+a+"."+w, 32, 32)
				}
				add(p+a+"_layer_norm", 32)
			}
			add(p+"fc1", 64, 32)
			add(p+"fc2", 32, 64)
			add(p+"final_layer_norm", 32)
		}
	}
	return s
}

// T5 is a small T5ForConditionalGeneration as of 2019, whose output embedding is
// the scaled input embedding; with GELU in place of ReLU, whose bends differences
// of the loss would meet.
func T5() Source { return t5("gelu", "wi") }

// T5Gated is one of version 1.1, which Flan-T5 has too: gated GELU and an output
// embedding of its own.
func T5Gated() Source {
	s := t5("gated-gelu", "wi_0", "wi_1")
	s.Config["tie_word_embeddings"] = false
	s.Tensors["lm_head.weight"] = []int{48, 32}
	return s
}

func t5(act string, inner ...string) Seeded {
	s := Seeded{
		Config: map[string]any{
			"architectures": []string{"T5ForConditionalGeneration"}, "model_type": "t5", "feed_forward_proj": act, "d_model": 32,
			"vocab_size": 48, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
			"relative_attention_num_buckets": 8, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
			"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "is_encoder_decoder": true, "n_positions": 64,
		},
		Tensors: map[string][]int{"shared.weight": {48, 32}},
	}
	for _, stack := range []string{"encoder", "decoder"} {
		for l := range 2 {
			at := 0
			layer := func() string {
				p := fmt.Sprintf("%s.block.%d.layer.%d.", stack, l, at)
				s.Tensors[p+"layer_norm.weight"] = []int{32}
				at++
				return p
			}
			attention := func(p string) {
				for _, w := range []string{"q", "k", "v", "o"} {
					s.Tensors[p+w+".weight"] = []int{32, 32}
				}
			}
			p := layer() + "SelfAttention."
			attention(p)
			if l == 0 {
				s.Tensors[p+"relative_attention_bias.weight"] = []int{8, 4}
			}
			if stack == "decoder" {
				attention(layer() + "EncDecAttention.")
			}
			p = layer() + "DenseReluDense."
			for _, w := range inner {
				s.Tensors[p+w+".weight"] = []int{64, 32}
			}
			s.Tensors[p+"wo.weight"] = []int{32, 64}
		}
		s.Tensors[stack+".final_layer_norm.weight"] = []int{32}
	}
	return s
}
