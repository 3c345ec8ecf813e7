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
		o["attn_logit_softcapping"], o["final_logit_softcapping"] = 50.0, 30.0 // llama.cpp's defaults
		for hf, key := range map[string]string{"attn_logit_softcapping": "gemma2.attn_logit_softcapping", "final_logit_softcapping": "gemma2.final_logit_softcapping"} {
			v, ok := m.Meta.Float(key)
			if !ok {
				continue
			}
			if !(v > 0) {
				return fmt.Errorf("metadata key %s is %g, expected more than 0: %w: llama.cpp divides by it", key, v, model.ErrMismatch)
			}
			o[hf] = decoder.Decimal(v)
		}
		theta, _ := m.Meta.Float("gemma2.rope.freq_base")
		if theta == 0 {
			theta = 10000
		}
		if v, ok := m.Meta.Float("gemma2.rope.freq_base_swa"); ok && v != theta {
			return fmt.Errorf("metadata key gemma2.rope.freq_base_swa is %g, and rope.freq_base %g: %w: Gemma 2 has one base for all layers", v, theta, model.ErrUnsupported)
		}
		if m.Meta.Str("gemma2.rope.scaling.type") == "none" && (m.Meta.Get("gemma2.rope.scaling.factor") != nil || m.Meta.Get("gemma2.rope.scale_linear") != nil) {
			return fmt.Errorf("metadata key gemma2.rope.scaling.type is none beside a factor: %w: llama.cpp scales the layers with a window all the same", model.ErrUnsupported)
		}
		o["query_pre_attn_scalar"] = o["head_dim"]
		// llama.cpp scales Gemma 2 27B by its 4608 features over 32 heads.
		if o["num_hidden_layers"] == int64(46) {
			o["query_pre_attn_scalar"] = o["hidden_size"].(int64) / o["num_attention_heads"].(int64)
		}
		return layerTypes("gemma2", 2, m, o)
	},
	Windowed: true,
	GGUFKeys: append(windowKeys(),
		model.Key{Name: "attn_logit_softcapping", Effect: model.Used, Kind: "float32", Why: "bounds the scores; 50 without the key"},
		model.Key{Name: "final_logit_softcapping", Effect: model.Used, Kind: "float32", Why: "bounds the logits; 30 without the key"}),
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
	Model: "gemma3_text", Short: "gemma3", Class: "Gemma3", TextClass: "Gemma3Text",
	Wrapper: decoder.Wrapper{Class: "Gemma3ForConditionalGeneration", Model: "gemma3"}, Arch: "gemma3",
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
		if v, ok := m.Meta.Float("gemma3.rope.scaling.attn_factor"); ok && v != 1 {
			return fmt.Errorf("metadata key gemma3.rope.scaling.attn_factor is %g: %w: llama.cpp multiplies the layers with a window, too", v, model.ErrUnsupported)
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
		if w, ok := m.Meta.Int("gemma3.attention.sliding_window"); !ok || w == 0 {
			o["sliding_window_pattern"] = 1
			delete(o, "sliding_window")
			return nil
		}
		return layerTypes("gemma3", 6, m, o)
	},
	Windowed: true,
	GGUFKeys: append(windowKeys(), model.Key{Name: "final_logit_softcapping", Effect: model.Used, Kind: "float32", Why: "bounds the logits; 0 or no key is none"}),
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

// windowKeys are those of layers with a sliding window.
func windowKeys() []model.Key {
	return []model.Key{
		{Name: "attention.sliding_window", Effect: model.Used, Kind: "uint32", Why: "the window"},
		{Name: "attention.sliding_window_pattern", Effect: model.Used, Kind: "uint32", List: true, Why: "every how many layers one attends to everything, or which layers have the window"},
		{Name: "rope.freq_base_swa", Effect: model.Used, Kind: "float32", Why: "the base of layers with a window"},
	}
}

// layerTypes says which layers have a window, where that is not as usual: llama.cpp
// reads a step, of which 0 is none without a window, or a list.
func layerTypes(arch string, step int64, m *formats.Model, o decoder.Object) error {
	key := arch + ".attention.sliding_window_pattern"
	v := m.Meta.Get(key)
	if v == nil {
		return nil
	}
	layers, _ := o["num_hidden_layers"].(int64)
	var sliding []bool
	switch x := v.(type) {
	case []bool:
		sliding = x
	case []uint32:
		for _, n := range x {
			sliding = append(sliding, n != 0)
		}
	case []int32:
		for _, n := range x {
			sliding = append(sliding, n != 0)
		}
	default:
		n, ok := m.Meta.Int(key)
		if !ok || n < 0 {
			return fmt.Errorf("metadata key %s is %v, expected a number or a list: %w", key, v, model.ErrMismatch)
		}
		if n == step {
			return nil
		}
		for l := range max(layers, 0) {
			sliding = append(sliding, n == 0 || l%n < n-1)
		}
	}
	if int64(len(sliding)) < layers {
		return fmt.Errorf("metadata key %s lists %d layers of %d: %w", key, len(sliding), layers, model.ErrMismatch)
	}
	types := make([]string, layers)
	for l := range types {
		types[l] = map[bool]string{true: "sliding_attention", false: "full_attention"}[sliding[l]]
	}
	o["layer_types"] = types
	return nil
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
		if arch == "gemma2" && (c.Variant.AttnCap == 0 || c.Variant.HeadCap == 0) {
			return fmt.Errorf("attn_logit_softcapping or final_logit_softcapping null: llama.cpp's gemma2 always caps: %w in GGUF", model.ErrUnsupported)
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
