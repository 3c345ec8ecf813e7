// Package gemma is the families of Gemma 1, 2 and 3, the last for its text models
// (Gemma3ForCausalLM). They are Llama's network with scaled embeddings, norms
// that multiply by one plus their weight, and GELU in the feed-forward blocks.
//
// Gemma 2 norms the outputs of its blocks too, caps scores and logits, and gives
// every other layer a sliding window. Gemma 3 norms the heads of queries and keys
// and rotates its windowed layers, five of six, by another base.
package gemma

import (
	"fmt"
	"math"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
)

func init() {
	model.Register(gemma1)
	model.Register(gemma2)
	model.Register(gemma3)
}

var activations = []string{nn.GELUTanh.Name, nn.GELU.Name}

var gemma1 = &decoder.Family{
	Model: "gemma", Class: "Gemma", Arch: "gemma",
	Activations: activations, RopeTypes: decoder.CommonRopes(),
	Defaults: func(c *decoder.Config) {
		c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 256000, 3072, 24576, 28, 16
		c.NumKeyValueHeads, c.HeadDim = decoder.Ptr(16), decoder.Ptr(256)
		c.HiddenAct, c.MaxPositionEmbeddings, c.TieWordEmbeddings = "gelu_pytorch_tanh", 8192, true
		c.PadTokenID = decoder.Ptr(int32(0))
	},
	Derive: func(c *decoder.Config) error {
		// The first releases said "gelu" and meant the approximation; transformers
		// does not read hidden_activation here.
		c.HiddenActivation = nil
		if c.HiddenAct == "gelu" {
			c.HiddenAct = "gelu_pytorch_tanh"
		}
		c.Variant = common(c)
		return nil
	},
	FromGGUF: func(_ *formats.Model, o decoder.Object) error {
		o["hidden_act"] = "gelu_pytorch_tanh"
		delete(o, "mlp_bias")
		return nil
	},
	ToGGUF:    func(c *decoder.Config) formats.Meta { return meta("gemma", c) },
	CheckGGUF: check("gemma", 0),
}

var gemma2 = &decoder.Family{
	Model: "gemma2", Class: "Gemma2", Arch: "gemma2",
	Activations: activations, RopeTypes: decoder.CommonRopes(),
	Defaults: func(c *decoder.Config) {
		defaults23(c)
		c.VocabSize, c.MaxPositionEmbeddings = 256000, 8192
		c.AttnLogitSoftcapping, c.FinalLogitSoftcapping = decoder.Ptr(50.0), decoder.Ptr(30.0)
	},
	Derive: func(c *decoder.Config) error {
		c.Variant = common(c)
		c.Variant.PostNorms = true
		c.Variant.AttnCap, c.Variant.HeadCap = value(c.AttnLogitSoftcapping), value(c.FinalLogitSoftcapping)
		if err := capped(c); err != nil {
			return err
		}
		if err := scale(c); err != nil {
			return err
		}
		return c.WindowsByType(func(l int) bool { return l%2 == 0 })
	},
	FromGGUF: func(m *formats.Model, o decoder.Object) error {
		restore23("gemma2", m, o)
		o["attn_logit_softcapping"], o["final_logit_softcapping"] = nil, nil
		for hf, key := range map[string]string{"attn_logit_softcapping": "gemma2.attn_logit_softcapping", "final_logit_softcapping": "gemma2.final_logit_softcapping"} {
			if v, ok := m.Meta.Float(key); ok && v != 0 { // 0 is none
				o[hf] = decoder.Decimal(v)
			}
		}
		o["query_pre_attn_scalar"] = o["head_dim"]
		// llama.cpp scales Gemma 2 27B by its 4608 features over 32 heads.
		if o["num_hidden_layers"] == int64(46) {
			o["query_pre_attn_scalar"] = o["hidden_size"].(int64) / o["num_attention_heads"].(int64)
		}
		return nil
	},
	ToGGUF: func(c *decoder.Config) formats.Meta {
		m := meta("gemma2", c)
		m.Set("gemma2.attn_logit_softcapping", float32(c.Variant.AttnCap))
		m.Set("gemma2.final_logit_softcapping", float32(c.Variant.HeadCap))
		m.Set("gemma2.attention.sliding_window", uint32(value(c.SlidingWindow)))
		return m
	},
	CheckGGUF: check("gemma2", 2),
}

var gemma3 = &decoder.Family{
	Model: "gemma3_text", Short: "gemma3", Class: "Gemma3", TextClass: "Gemma3Text", Arch: "gemma3",
	Activations: activations, RopeTypes: decoder.CommonRopes(),
	Defaults: func(c *decoder.Config) {
		defaults23(c)
		c.VocabSize, c.MaxPositionEmbeddings = 262208, 131072
		c.RopeTheta, c.RopeLocalBaseFreq, c.SlidingWindowPattern = 1000000, 10000, 6
	},
	Derive: func(c *decoder.Config) error {
		c.Variant = common(c)
		c.Variant.PostNorms, c.Variant.QKNorm, c.Variant.LocalRope = true, true, true
		// transformers caps the logits but, whatever attn_logit_softcapping says, not the scores.
		c.Variant.HeadCap = value(c.FinalLogitSoftcapping)
		if err := capped(c); err != nil {
			return err
		}
		if c.SlidingWindowPattern < 1 {
			return fmt.Errorf("config: sliding_window_pattern %d, expected 1 or more: %w", c.SlidingWindowPattern, model.ErrMismatch)
		}
		if err := scale(c); err != nil {
			return err
		}
		return c.WindowsByType(func(l int) bool { return (l+1)%c.SlidingWindowPattern != 0 })
	},
	FromGGUF: func(m *formats.Model, o decoder.Object) error {
		restore23("gemma3", m, o)
		if m.Meta.Get("gemma3.rope.freq_base") == nil {
			o["rope_theta"] = 1000000.0
		}
		o["rope_local_base_freq"] = 10000.0
		if v, ok := m.Meta.Float("gemma3.rope.freq_base_swa"); ok {
			o["rope_local_base_freq"] = decoder.Decimal(v)
		}
		o["attn_logit_softcapping"], o["final_logit_softcapping"] = nil, nil
		if v, ok := m.Meta.Float("gemma3.final_logit_softcapping"); ok && v != 0 {
			o["final_logit_softcapping"] = decoder.Decimal(v)
		}
		o["query_pre_attn_scalar"] = o["head_dim"]
		// llama.cpp scales Gemma 3 27B by its 5376 features over 32 heads.
		if o["num_hidden_layers"] == int64(62) {
			o["query_pre_attn_scalar"] = o["hidden_size"].(int64) / o["num_attention_heads"].(int64)
		}
		if _, ok := m.Meta.Int("gemma3.attention.sliding_window"); !ok {
			o["sliding_window_pattern"] = 1
		}
		return nil
	},
	ToGGUF: func(c *decoder.Config) formats.Meta {
		m := meta("gemma3", c)
		m.Set("gemma3.rope.freq_base_swa", float32(c.LocalTheta()))
		if c.Variant.HeadCap > 0 {
			m.Set("gemma3.final_logit_softcapping", float32(c.Variant.HeadCap))
		}
		if c.Variant.Windows != nil {
			m.Set("gemma3.attention.sliding_window", uint32(value(c.SlidingWindow)))
		}
		return m
	},
	CheckGGUF: check("gemma3", 6),
}

// common is what all Gemmas share.
func common(c *decoder.Config) decoder.Variant {
	return decoder.Variant{QKVBias: c.AttentionBias, OutBias: c.AttentionBias, Plus1: true, ScaledEmbedding: true}
}

func defaults23(c *decoder.Config) {
	c.PadTokenID = decoder.Ptr(int32(0))
	c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads = 2304, 9216, 26, 8
	c.NumKeyValueHeads, c.HeadDim = decoder.Ptr(4), decoder.Ptr(256)
	c.HiddenAct, c.TieWordEmbeddings = "gelu_pytorch_tanh", true
	c.QueryPreAttnScalar, c.SlidingWindow = 256, decoder.Ptr(4096)
}

func scale(c *decoder.Config) error {
	if c.QueryPreAttnScalar <= 0 {
		return fmt.Errorf("config: query_pre_attn_scalar %g must be positive: %w", c.QueryPreAttnScalar, model.ErrMismatch)
	}
	c.Variant.AttnScale = 1 / math.Sqrt(c.QueryPreAttnScalar)
	return nil
}

// capped refuses caps that no number is below; null is none.
func capped(c *decoder.Config) error {
	for name, v := range map[string]*float64{"attn_logit_softcapping": c.AttnLogitSoftcapping, "final_logit_softcapping": c.FinalLogitSoftcapping} {
		if v != nil && !(*v > 0) {
			return fmt.Errorf("config: %s is %g, expected more than 0, or null for none: %w", name, *v, model.ErrMismatch)
		}
	}
	return nil
}

func value[T int | float64](p *T) T {
	if p == nil {
		return 0
	}
	return *p
}

func meta(arch string, c *decoder.Config) formats.Meta { return c.Meta(arch) }

func restore23(arch string, m *formats.Model, o decoder.Object) {
	delete(o, "mlp_bias")
	delete(o, "hidden_act")
	o["hidden_activation"] = "gelu_pytorch_tanh"
	if w, ok := m.Meta.Int(arch + ".attention.sliding_window"); ok {
		o["sliding_window"] = w
	}
}

// check refuses what llama.cpp's files of the architecture cannot say: every
// step-th layer attends to everything, the scores are scaled by head_dim.
func check(arch string, step int) func(c *decoder.Config) error {
	return func(c *decoder.Config) error {
		if !c.TieWordEmbeddings {
			return fmt.Errorf("tie_word_embeddings false: %s in GGUF has no output embedding of its own: %w", arch, model.ErrUnsupported)
		}
		if c.HiddenActivation != nil && !slices.Contains([]string{"gelu_pytorch_tanh", "gelu_new", "gelu_fast"}, *c.HiddenActivation) {
			return fmt.Errorf("hidden_activation %q: %s in GGUF has only gelu_pytorch_tanh: %w", *c.HiddenActivation, arch, model.ErrUnsupported)
		}
		if c.AttentionBias {
			return fmt.Errorf("attention_bias: %s in GGUF has no biases: %w", arch, model.ErrUnsupported)
		}
		for l, w := range c.Variant.Windows {
			if (w > 0) != ((l+1)%step != 0) {
				return fmt.Errorf("layer_types: in GGUF every layer of %s but each %dth has a window: %w", arch, step, model.ErrUnsupported)
			}
		}
		want := float64(*c.HeadDim)
		if arch == "gemma2" && c.NumHiddenLayers == 46 || arch == "gemma3" && c.NumHiddenLayers == 62 {
			want = float64(c.HiddenSize / c.NumAttentionHeads)
		}
		if s := c.Variant.AttnScale; s != 0 && c.QueryPreAttnScalar != want {
			return fmt.Errorf("query_pre_attn_scalar %g: %s in GGUF scales by %g: %w", c.QueryPreAttnScalar, arch, want, model.ErrUnsupported)
		}
		return nil
	}
}
