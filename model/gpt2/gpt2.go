// Package gpt2 is the GPT-2 family of decoder-only models (GPT2LMHeadModel):
// GPT-2, DistilGPT-2 and what has their config.json.
//
// The network follows transformers' modeling_gpt2: learned positions, layer norm
// before each block, queries, keys and values from one layer, matrices kept as
// [in, out] (Conv1D).
package gpt2

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
)

func init() { model.Register(family{}) }

type family struct{}

var _ model.Family = family{}

// Name implements model.Family.
func (family) Name() string { return "gpt2" }

// The classes of transformers that the family answers to.
const (
	causalClass   = "GPT2LMHeadModel"
	sequenceClass = "GPT2ForSequenceClassification"
	tokenClass    = "GPT2ForTokenClassification"
	baseClass     = "GPT2Model"
)

// classOf returns the class that a config.json names, "" when it is none of these.
func classOf(raw json.RawMessage) string {
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	switch {
	case json.Unmarshal(raw, &c) != nil:
		return ""
	case len(c.Architectures) == 0 && c.ModelType == "gpt2":
		return causalClass
	}
	for _, a := range c.Architectures {
		if slices.Contains([]string{causalClass, sequenceClass, tokenClass, baseClass}, a) {
			return a
		}
	}
	return ""
}

// Match implements model.Family.
func (family) Match(m *formats.Model) bool {
	if m.Naming == formats.GGUF {
		return m.Meta.Str("general.architecture") == "gpt2"
	}
	return classOf(m.Config) != ""
}

// mask matches the causal masks that old checkpoints carry.
var mask = regexp.MustCompile(`\.attn\.(bias|masked_bias)$`)

// Open implements model.Family.
func (f family) Open(m *formats.Model) (*model.Checkpoint, error) {
	raw := m.Config
	if m.Naming == formats.GGUF {
		var err error
		if raw, err = configFromGGUF(m); err != nil {
			return nil, err
		}
	}
	c, err := parseConfig(raw)
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	m = decoder.WithPrefix(m, prefix, headPath, scorePath, classifierPath)
	entries, err := model.Bind(m, c.rules(classOf(raw)), func(name string) bool { return mask.MatchString(name) })
	if err != nil {
		return nil, err
	}
	ck := &model.Checkpoint{Family: f, Source: m, Config: raw, Entries: entries}
	if !c.TieWordEmbeddings {
		return ck, nil
	}
	return ck, decoder.HeadAgrees(ck, embedPath+".weight", headPath+".weight")
}

// Paths of modules outside of the layers.
const (
	prefix         = "transformer."
	embedPath      = prefix + "wte"
	positionPath   = prefix + "wpe"
	normPath       = prefix + "ln_f"
	headPath       = "lm_head"
	scorePath      = "score"
	classifierPath = "classifier"
)

func layerPrefix(layer int) string { return fmt.Sprintf("%sh.%d.", prefix, layer) }

// module is one place under both names; shape is that of a linear layer's weight
// as Hugging Face stores it.
type module struct {
	hf, gguf string
	shape    []int
	conv     bool // Conv1D: [in, out]
	bias     bool
}

// modules lists all modules in the order of transformers' named_modules, the
// output embedding last.
func (c *config) modules() []module {
	h, ff := c.Embd, c.inner()
	out := []module{
		{hf: embedPath, gguf: "token_embd", shape: []int{c.VocabSize, h}},
		{hf: positionPath, gguf: "position_embd", shape: []int{c.Positions, h}},
	}
	for l := range c.Layers {
		p, g := layerPrefix(l), fmt.Sprintf("blk.%d.", l)
		conv := func(hf, gguf string, in, n int) module {
			return module{hf: p + hf, gguf: g + gguf, shape: []int{in, n}, conv: true, bias: true}
		}
		norm := func(hf, gguf string) module {
			return module{hf: p + hf, gguf: g + gguf, shape: []int{h}, bias: true}
		}
		out = append(out,
			norm("ln_1", "attn_norm"),
			conv("attn.c_attn", "attn_qkv", h, 3*h), conv("attn.c_proj", "attn_output", h, h),
			norm("ln_2", "ffn_norm"),
			conv("mlp.c_fc", "ffn_up", h, ff), conv("mlp.c_proj", "ffn_down", ff, h),
		)
	}
	return append(out,
		module{hf: normPath, gguf: "output_norm", shape: []int{h}, bias: true},
		module{hf: headPath, gguf: "output", shape: []int{c.VocabSize, h}})
}

// rules lists the tensors; those of the heads are optional, because what is
// missing is known only when a task is asked for.
func (c *config) rules(class string) []model.Rule {
	var out []model.Rule
	for _, m := range c.modules() {
		out = append(out, model.Rule{
			HF: m.hf + ".weight", GGUF: m.gguf + ".weight", Shape: m.shape, Transposed: m.conv,
			Optional: m.hf == headPath && (c.TieWordEmbeddings || class != causalClass),
		})
		if m.bias {
			out = append(out, model.Rule{HF: m.hf + ".bias", GGUF: m.gguf + ".bias", Shape: m.shape[len(m.shape)-1:]})
		}
	}
	switch n := c.labels(); class {
	case sequenceClass:
		out = append(out, model.Rule{HF: scorePath + ".weight", Shape: []int{n, c.Embd}, Optional: true})
	case tokenClass:
		out = append(out,
			model.Rule{HF: classifierPath + ".weight", Shape: []int{n, c.Embd}, Optional: true},
			model.Rule{HF: classifierPath + ".bias", Shape: []int{n}, Optional: true})
	}
	return out
}

// GGUFNames implements model.Family.
func (family) GGUFNames(raw json.RawMessage) (*model.Names, error) {
	c, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	n := &model.Names{Arch: "gpt2", ToGGUF: map[string]string{}, ToHF: map[string]string{}, Transposed: map[string]bool{}}
	for _, m := range c.modules() {
		n.ToGGUF[m.hf], n.ToHF[m.gguf] = m.gguf, m.hf
		if m.conv {
			n.Transposed[m.hf] = true
		}
	}
	return n, nil
}

// GGUFMeta implements model.Family. Keys and order are those of
// convert_hf_to_gguf.py.
func (f family) GGUFMeta(ck *model.Checkpoint) (formats.Meta, []model.Entry, error) {
	if ck.Source.Naming == formats.GGUF {
		return slices.Clone(ck.Source.Meta), nil, nil
	}
	c, err := parseConfig(ck.Config)
	if err != nil {
		return nil, nil, err
	}
	switch class := classOf(ck.Config); {
	case class == sequenceClass || class == tokenClass:
		return nil, nil, fmt.Errorf("%s: %s: llama.cpp computes no such head: %w", ck.Source.Path, class, model.ErrUnsupported)
	case c.act.Name != "gelu_new" || !c.ScaleAttn || c.ScaleByLayer:
		return nil, nil, fmt.Errorf("%s: activation_function %q, scale_attn_weights %v, scale_attn_by_inverse_layer_idx %v: GGUF files of GPT-2 have no place for them: %w",
			ck.Source.Path, c.Activation, c.ScaleAttn, c.ScaleByLayer, model.ErrUnsupported)
	}
	return formats.Meta{
		{Key: "general.architecture", Value: "gpt2"},
		{Key: "general.type", Value: "model"},
		{Key: "gpt2.block_count", Value: uint32(c.Layers)},
		{Key: "gpt2.context_length", Value: uint32(c.Positions)},
		{Key: "gpt2.embedding_length", Value: uint32(c.Embd)},
		{Key: "gpt2.feed_forward_length", Value: uint32(c.inner())},
		{Key: "gpt2.attention.head_count", Value: uint32(c.Heads)},
		{Key: "gpt2.attention.layer_norm_epsilon", Value: float32(c.Eps)},
	}, nil, nil
}

// configFromGGUF writes the config.json that corresponds to GGUF metadata.
func configFromGGUF(m *formats.Model) (json.RawMessage, error) {
	if err := model.CheckMeta(m, "gpt2", family{}.Keys(formats.GGUF)); err != nil {
		return nil, err
	}
	r := &decoder.Reader{M: m, Arch: "gpt2"}
	hidden, inner := r.Int("embedding_length"), r.Int("feed_forward_length")
	o := decoder.Object{
		"architectures": []string{causalClass}, "model_type": "gpt2", "activation_function": "gelu_new",
		"initializer_range": 0.02, "layer_norm_epsilon": decoder.Shortest(r.Float("attention.layer_norm_epsilon")),
		"n_embd": hidden, "n_head": r.Int("attention.head_count"), "n_inner": nil, "n_layer": r.Int("block_count"),
		"n_positions": r.Int("context_length"), "tie_word_embeddings": sameHead(m), "use_cache": true, "vocab_size": r.Vocab(),
	}
	if inner != 4*hidden {
		o["n_inner"] = inner
	}
	r.Tokens(o)
	if r.Err != nil {
		return nil, r.Err
	}
	return o.Bytes()
}

// sameHead reports whether a GGUF file has no output embedding of its own: none
// at all, or, as older converters wrote it, a copy of the input embedding.
func sameHead(m *formats.Model) bool {
	out, emb := decoder.Find(m, "output.weight"), decoder.Find(m, "token_embd.weight")
	return out == nil || emb != nil && out.Type == emb.Type && strings.Compare(string(out.Data), string(emb.Data)) == 0
}

// Keys implements model.Keyed.
func (family) Keys(naming formats.Naming) []model.Key {
	if naming != formats.GGUF {
		return nil
	}
	return slices.Concat(decoder.BaseKeys(), decoder.Without(decoder.RopeKeys(false)), []model.Key{
		{Name: "attention.layer_norm_epsilon", Effect: model.Used, Kind: "float32", Why: "what is added to variances"},
	})
}
