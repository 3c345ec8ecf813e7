package t5

import (
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
)

const (
	head    = "lm_head"
	outNorm = "final_layer_norm"
	// classifierPrefix stands before the network's modules in a classifier.
	classifierPrefix = "transformer."
)

// module is one linear, embedding or norm under both names.
type module struct {
	hf, gguf string
	shape    []int
	kind     kind
}

type kind int

const (
	linear kind = iota
	norm
	embedding
	bias // the table of relative attention biases
)

// side is what the configuration says of one of the two stacks.
type side struct {
	stack     model.Stack
	hf, gguf  string // "encoder.", "enc."
	layers    int
	sublayers []model.SublayerKind // of a layer
	bothSides bool                 // distances of both signs have buckets
}

func (c *Config) sides() []side {
	enc := side{
		stack: model.Encoder, hf: "encoder.", gguf: "enc.", layers: c.NumLayers, bothSides: true,
		sublayers: []model.SublayerKind{model.SelfAttention, model.FeedForward},
	}
	if c.encoderOnly {
		return []side{enc}
	}
	return []side{enc, {
		stack: model.Decoder, hf: "decoder.", gguf: "dec.", layers: *c.NumDecoderLayers,
		sublayers: []model.SublayerKind{model.SelfAttention, model.CrossAttention, model.FeedForward},
	}}
}

func (s side) block(l int) string { return fmt.Sprintf("%sblock.%d", s.hf, l) }

func (s side) sublayer(l, i int) string { return fmt.Sprintf("%sblock.%d.layer.%d", s.hf, l, i) }

// attentionName is the module that holds the projections.
func attentionName(k model.SublayerKind) string {
	if k == model.CrossAttention {
		return ".EncDecAttention"
	}
	return ".SelfAttention"
}

// modules lists the modules of one stack in the order of transformers'
// named_modules, without the input embedding.
func (c *Config) modules(s side) []module {
	d, inner := c.DModel, c.inner()
	var out []module
	for l := range s.layers {
		g := fmt.Sprintf("%sblk.%d.", s.gguf, l)
		for i, k := range s.sublayers {
			p := s.sublayer(l, i)
			name := "ffn_norm"
			if k == model.FeedForward {
				ff := p + ".DenseReluDense."
				if c.gated {
					out = append(out, module{ff + "wi_0", g + "ffn_gate", []int{c.DFF, d}, linear}, module{ff + "wi_1", g + "ffn_up", []int{c.DFF, d}, linear})
				} else {
					out = append(out, module{ff + "wi", g + "ffn_up", []int{c.DFF, d}, linear})
				}
				out = append(out, module{ff + "wo", g + "ffn_down", []int{d, c.DFF}, linear})
			} else {
				a, at := p+attentionName(k)+".", g+"attn_"
				if k == model.CrossAttention {
					at = g + "cross_attn_"
				}
				for _, w := range []string{"q", "k", "v"} {
					out = append(out, module{a + w, at + w, []int{inner, d}, linear})
				}
				out = append(out, module{a + "o", at + "o", []int{d, inner}, linear})
				if l == 0 && k == model.SelfAttention {
					out = append(out, module{a + "relative_attention_bias", at + "rel_b", []int{c.Buckets, c.NumHeads}, bias})
				}
				name = at[len(g):] + "norm"
			}
			out = append(out, module{p + ".layer_norm", g + name, []int{d}, norm})
		}
	}
	return append(out, module{s.hf + outNorm, s.gguf + "output_norm", []int{d}, norm})
}

// rules lists the tensors of a checkpoint.
func rules(c *Config, m *formats.Model) []model.Rule {
	embed := []int{c.VocabSize, c.DModel}
	out := []model.Rule{
		{HF: sharedEmbedding + ".weight", GGUF: "token_embd.weight", Shape: embed},
		{HF: encoderEmbed + ".weight", Shape: embed, Optional: true},
		{HF: decoderEmbed + ".weight", Shape: embed, Optional: true},
	}
	for _, s := range c.sides() {
		for _, mod := range c.modules(s) {
			out = append(out, model.Rule{HF: mod.hf + ".weight", GGUF: mod.gguf + ".weight", Shape: mod.shape})
		}
	}
	if c.encoderOnly {
		return out
	}
	labels := 0 // as many as are stored; Build compares them with what is wanted
	for _, t := range m.Tensors {
		if t.Name == model.PooledOut+".weight" && len(t.Shape) == 2 {
			labels = t.Shape[0]
		}
	}
	return append(out,
		model.Rule{HF: head + ".weight", GGUF: "output.weight", Shape: embed, Optional: true},
		model.Rule{HF: model.PooledDense + ".weight", Shape: []int{c.DModel, c.DModel}, Optional: true},
		model.Rule{HF: model.PooledDense + ".bias", Shape: []int{c.DModel}, Optional: true},
		model.Rule{HF: model.PooledOut + ".weight", Shape: []int{labels, c.DModel}, Optional: true},
		model.Rule{HF: model.PooledOut + ".bias", Shape: []int{labels}, Optional: true})
}
