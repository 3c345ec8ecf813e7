package bart

import (
	"bytes"
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

const (
	sharedEmbedding = "model.shared"
	encoderEmbed    = "model.encoder.embed_tokens"
	decoderEmbed    = "model.decoder.embed_tokens"
	head            = "lm_head"
	logitsBias      = "final_logits_bias"
)

// module is one linear, embedding or norm.
type module struct {
	path  string
	shape []int
	kind  kind
}

type kind int

const (
	linear kind = iota // with a bias
	embedding
	positions
	norm
)

// side is what the configuration says of one of the two stacks.
type side struct {
	stack              model.Stack
	prefix             string
	layers, ffn, heads int
}

func (c *Config) sides() [2]side {
	return [2]side{
		{model.Encoder, "model.encoder.", c.EncoderLayers, c.EncoderFFN, c.EncoderHeads},
		{model.Decoder, "model.decoder.", c.DecoderLayers, c.DecoderFFN, c.DecoderHeads},
	}
}

func (s side) layer(l int) string { return fmt.Sprintf("%slayers.%d", s.prefix, l) }

// modules lists the modules of one stack in the order of transformers'
// named_modules. model.shared, which no forward pass reads, is not among them.
func (c *Config) modules(s side) []module {
	d := c.DModel
	vocab := c.VocabSize
	if s.stack == model.Decoder {
		vocab = c.DecoderVocabSize
	}
	out := []module{{s.prefix + "embed_tokens", []int{vocab, d}, embedding}}
	if !c.kind.sinusoid {
		out = append(out, module{s.prefix + "embed_positions", []int{c.MaxPositionEmbeddings + positionOffset, d}, positions})
	}
	attention := func(path string) {
		for _, p := range []string{"k_proj", "v_proj", "q_proj", "out_proj"} {
			out = append(out, module{path + "." + p, []int{d, d}, linear})
		}
		out = append(out, module{path + "_layer_norm", []int{d}, norm})
	}
	for l := range s.layers {
		p := s.layer(l)
		attention(p + ".self_attn")
		if s.stack == model.Decoder {
			attention(p + ".encoder_attn")
		}
		out = append(out, module{p + ".fc1", []int{s.ffn, d}, linear}, module{p + ".fc2", []int{d, s.ffn}, linear},
			module{p + ".final_layer_norm", []int{d}, norm})
	}
	if !c.kind.sinusoid {
		out = append(out, module{s.prefix + "layernorm_embedding", []int{d}, norm})
	}
	if c.kind.preNorm {
		out = append(out, module{s.prefix + "layer_norm", []int{d}, norm})
	}
	return out
}

// embeddingSources lists, for each side, the tensors that may hold its token
// embedding, the first stored one counts: tied weights are stored under any one
// of their names.
func (c *Config) embeddingSources() map[string][]string {
	enc, dec := []string{encoderEmbed, sharedEmbedding}, []string{decoderEmbed}
	if c.ShareEmbeddings {
		enc, dec = append(enc, decoderEmbed), append(dec, sharedEmbedding, encoderEmbed)
	}
	if c.TieWordEmbeddings {
		dec = append(dec, head)
		if c.ShareEmbeddings {
			enc = append(enc, head)
		}
	}
	return map[string][]string{encoderEmbed: enc, decoderEmbed: dec}
}

// rules lists the tensors of a checkpoint.
func rules(c *Config, m *formats.Model) []model.Rule {
	stored := map[string][]int{}
	for _, t := range m.Tensors {
		stored[t.Name] = t.Shape
	}
	var out []model.Rule
	for _, s := range c.sides() {
		for _, mod := range c.modules(s) {
			r := model.Rule{HF: mod.path + ".weight", Shape: mod.shape}
			if mod.kind == embedding {
				for _, name := range c.embeddingSources()[mod.path] {
					r.Optional = r.Optional || stored[name+".weight"] != nil
				}
			}
			out = append(out, r)
			if mod.kind == linear || mod.kind == norm {
				out = append(out, model.Rule{HF: mod.path + ".bias", Shape: mod.shape[:1]})
			}
		}
		if c.kind.sinusoid {
			out = append(out, model.Rule{HF: s.prefix + "embed_positions.weight", Shape: []int{c.MaxPositionEmbeddings, c.DModel}, Optional: true})
		}
	}
	optional := func(name string, shape ...int) {
		out = append(out, model.Rule{HF: name, Shape: shape, Optional: true})
	}
	optional(sharedEmbedding+".weight", c.VocabSize, c.DModel)
	optional(head+".weight", c.DecoderVocabSize, c.DModel)
	optional(logitsBias, 1, c.DecoderVocabSize)
	optional(model.PooledDense+".weight", c.DModel, c.DModel)
	optional(model.PooledDense+".bias", c.DModel)
	labels := 0 // as many as are stored; Build compares them with what is wanted
	if s := stored[model.PooledOut+".weight"]; len(s) == 2 {
		labels = s[0]
	}
	optional(model.PooledOut+".weight", labels, c.DModel)
	optional(model.PooledOut+".bias", labels)
	return out
}

// copiesAgree checks that tied weights that are stored under several names are
// the same: transformers keeps one of them.
func copiesAgree(ck *model.Checkpoint, c *Config) error {
	if !c.TieWordEmbeddings {
		return nil
	}
	for path, names := range c.embeddingSources() {
		var first string
		for _, name := range names {
			t := ck.Tensor(name + ".weight")
			if t == nil {
				continue
			}
			if first == "" {
				first = name
				continue
			}
			if f := ck.Tensor(first + ".weight"); f.Type != t.Type || !bytes.Equal(f.Data, t.Data) {
				return fmt.Errorf("%s: tie_word_embeddings is true but %s.weight differs from %s.weight, both hold %s: %w; set it to false in config.json if each is meant to be its own", ck.Source.Path, name, first, path, model.ErrMismatch)
			}
		}
	}
	return nil
}

// embeddings loads the token embeddings of both sides and the output embedding,
// which share a weight where they are tied or the same.
func (n *network) embeddings(m *model.Model) (enc, dec, out *nn.Weight, err error) {
	loaded := map[string]*nn.Weight{}
	load := func(names []string) (*nn.Weight, error) {
		for _, name := range names {
			t := m.Tensor(name + ".weight")
			if t == nil {
				continue
			}
			for other, w := range loaded {
				if o := m.Tensor(other + ".weight"); o == t || o.Type == t.Type && bytes.Equal(o.Data, t.Data) {
					return w, nil
				}
			}
			w, err := m.LoadWeight(name + ".weight")
			loaded[name] = w
			return w, err
		}
		return nil, fmt.Errorf("%s.weight is missing: %w", names[0], model.ErrMismatch)
	}
	sources := n.c.embeddingSources()
	if enc, err = load(sources[encoderEmbed]); err != nil {
		return
	}
	if dec, err = load(sources[decoderEmbed]); err != nil {
		return
	}
	if n.classify {
		return
	}
	if out = dec; !n.c.TieWordEmbeddings {
		out, err = load([]string{head})
	}
	return
}
