package decoder

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
)

// module is one linear layer, embedding or norm under both names.
type module struct {
	hf, gguf string
	shape    []int
	heads    int  // rows interleaved by llama.cpp
	bias     bool // has a bias in this configuration
	norm     bool
}

// Names of modules outside of the layers.
const (
	embedPath = "model.embed_tokens"
	normPath  = "model.norm"
	headPath  = "lm_head"
	scorePath = "score"
)

func layerPrefix(layer int) string { return fmt.Sprintf("model.layers.%d.", layer) }

// modules lists all modules in the order of transformers' named_modules, the
// output embedding last.
func (c *Config) modules() []module {
	v, h, ff := c.Variant, c.HiddenSize, c.IntermediateSize
	q, kv := c.NumAttentionHeads*c.headDim(), c.kvHeads()*c.headDim()
	heads, kvHeads := 0, 0
	if v.Interleaved {
		heads, kvHeads = c.NumAttentionHeads, c.kvHeads()
	}
	out := []module{{hf: embedPath, gguf: "token_embd", shape: []int{c.VocabSize, h}}}
	for l := range c.NumHiddenLayers {
		p, g := layerPrefix(l), fmt.Sprintf("blk.%d.", l)
		linear := func(hf, gguf string, rows, cols, heads int, bias bool) {
			out = append(out, module{hf: p + hf, gguf: g + gguf, shape: []int{rows, cols}, heads: heads, bias: bias})
		}
		norm := func(hf, gguf string, n int) {
			out = append(out, module{hf: p + hf, gguf: g + gguf, shape: []int{n}, norm: true})
		}
		if v.FusedQKV {
			linear("self_attn.o_proj", "attn_output", h, q, 0, v.OutBias)
			linear("self_attn.qkv_proj", "attn_qkv", q+2*kv, h, 0, v.QKVBias)
		} else {
			linear("self_attn.q_proj", "attn_q", q, h, heads, v.QKVBias)
			linear("self_attn.k_proj", "attn_k", kv, h, kvHeads, v.QKVBias)
			linear("self_attn.v_proj", "attn_v", kv, h, 0, v.QKVBias)
			linear("self_attn.o_proj", "attn_output", h, q, 0, v.OutBias)
		}
		if v.QKNorm {
			norm("self_attn.q_norm", "attn_q_norm", c.headDim())
			norm("self_attn.k_norm", "attn_k_norm", c.headDim())
		}
		if v.FusedMLP {
			linear("mlp.gate_up_proj", "ffn_up", 2*ff, h, 0, v.MLPBias)
		} else {
			linear("mlp.gate_proj", "ffn_gate", ff, h, 0, v.MLPBias)
			linear("mlp.up_proj", "ffn_up", ff, h, 0, v.MLPBias)
		}
		linear("mlp.down_proj", "ffn_down", h, ff, 0, v.MLPBias)
		norm("input_layernorm", "attn_norm", h)
		if v.PostNorms {
			norm("post_attention_layernorm", "post_attention_norm", h)
			norm("pre_feedforward_layernorm", "ffn_norm", h)
			norm("post_feedforward_layernorm", "post_ffw_norm", h)
		} else {
			norm("post_attention_layernorm", "ffn_norm", h)
		}
	}
	return append(out,
		module{hf: normPath, gguf: "output_norm", shape: []int{h}, norm: true},
		module{hf: headPath, gguf: "output", shape: []int{c.VocabSize, h}})
}

// rules lists the tensors. A classifier has score in place of lm_head; both are
// optional, because what is missing is known only when a task is asked for.
func (c *Config) rules(class string) []model.Rule {
	var out []model.Rule
	shift := float32(0)
	if c.Variant.Plus1 {
		shift = 1
	}
	for _, m := range c.modules() {
		r := model.Rule{HF: m.hf + ".weight", GGUF: m.gguf + ".weight", Shape: m.shape, Heads: m.heads}
		if m.norm {
			r.Shift = shift
		}
		r.Optional = m.hf == headPath && (c.TieWordEmbeddings || class != causalClass)
		out = append(out, r)
		if m.bias {
			out = append(out, model.Rule{HF: m.hf + ".bias", GGUF: m.gguf + ".bias", Shape: m.shape[:1], Heads: m.heads})
		}
	}
	if class == sequenceClass || class == tokenClass {
		out = append(out,
			model.Rule{HF: scorePath + ".weight", Shape: []int{c.labels(), c.HiddenSize}, Optional: true},
			model.Rule{HF: scorePath + ".bias", Shape: []int{c.labels()}, Optional: true})
	}
	if c.global.Partial == nil {
		out = append(out, model.Rule{GGUF: ropeFreqs, Shape: []int{c.headDim() / 2}, Optional: true})
	}
	n := c.global.rotated(c) / 2
	return append(out,
		model.Rule{GGUF: ropeLong, Shape: []int{n}, Optional: true},
		model.Rule{GGUF: ropeShort, Shape: []int{n}, Optional: true})
}

// Tensors that only GGUF files have.
const (
	ropeFreqs = "rope_freqs.weight"
	ropeLong  = "rope_factors_long.weight"
	ropeShort = "rope_factors_short.weight"
)

func (c *Config) names(arch string) *model.Names {
	n := &model.Names{Arch: arch, ToGGUF: map[string]string{}, ToHF: map[string]string{}, StoredRow: map[string][]int32{}, Shift: map[string]float32{}}
	for _, m := range c.modules() {
		n.ToGGUF[m.hf], n.ToHF[m.gguf] = m.gguf, m.hf
		if m.heads > 0 {
			n.StoredRow[m.hf] = model.HeadOrder(m.shape[0], m.heads)
		}
		if m.norm && c.Variant.Plus1 {
			n.Shift[m.hf] = 1
		}
	}
	return n
}
