package llama

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

func init() { model.Register(family{}) }

type family struct{}

var _ model.Family = family{}

// Name implements model.Family.
func (family) Name() string { return "llama" }

// Match implements model.Family.
func (family) Match(m *formats.Model) bool {
	if m.Naming == formats.GGUF {
		return m.Meta.Str("general.architecture") == "llama"
	}
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if json.Unmarshal(m.Config, &c) != nil {
		return false
	}
	if len(c.Architectures) > 0 {
		return slices.Contains(c.Architectures, "LlamaForCausalLM")
	}
	return c.ModelType == "llama"
}

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
		return nil, fmt.Errorf("%s: %w", m.Path, err)
	}
	entries, err := model.Bind(m, rules(c), func(name string) bool {
		// A cached table that old transformers wrote.
		return strings.HasSuffix(name, ".rotary_emb.inv_freq")
	})
	if err != nil {
		return nil, err
	}
	ck := &model.Checkpoint{Family: f, Source: m, Config: raw, Entries: entries}
	return ck, headsAgree(ck, c)
}

// headsAgree checks a tied model that stores lm_head all the same: transformers
// ignores the copy, so it must not differ.
func headsAgree(ck *model.Checkpoint, c *Config) error {
	head := ck.Tensor("lm_head.weight")
	if !c.TieWordEmbeddings || head == nil {
		return nil
	}
	if emb := ck.Tensor("model.embed_tokens.weight"); head.Type != emb.Type || string(head.Data) != string(emb.Data) {
		return fmt.Errorf("%s: tie_word_embeddings is true but lm_head.weight differs from model.embed_tokens.weight: %w; set it to false in config.json if the head is meant to be its own", ck.Source.Path, model.ErrMismatch)
	}
	return nil
}

// module is one linear, embedding or norm of the family under both names.
type module struct {
	hf, gguf string
	shape    []int
	heads    int  // rows interleaved by llama.cpp
	bias     bool // has a bias in this configuration
	norm     bool
}

// modules lists all modules in the order of transformers' named_modules, the
// head last.
func modules(c *Config) []module {
	h, ff := c.HiddenSize, c.IntermediateSize
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	out := []module{{hf: "model.embed_tokens", gguf: "token_embd", shape: []int{c.VocabSize, h}}}
	for l := range c.NumHiddenLayers {
		p, g := fmt.Sprintf("model.layers.%d.", l), fmt.Sprintf("blk.%d.", l)
		out = append(out,
			module{hf: p + "self_attn.q_proj", gguf: g + "attn_q", shape: []int{q, h}, heads: c.NumAttentionHeads, bias: c.AttentionBias},
			module{hf: p + "self_attn.k_proj", gguf: g + "attn_k", shape: []int{kv, h}, heads: c.NumKeyValueHeads, bias: c.AttentionBias},
			module{hf: p + "self_attn.v_proj", gguf: g + "attn_v", shape: []int{kv, h}, bias: c.AttentionBias},
			module{hf: p + "self_attn.o_proj", gguf: g + "attn_output", shape: []int{h, q}, bias: c.AttentionBias},
			module{hf: p + "mlp.gate_proj", gguf: g + "ffn_gate", shape: []int{ff, h}, bias: c.MLPBias},
			module{hf: p + "mlp.up_proj", gguf: g + "ffn_up", shape: []int{ff, h}, bias: c.MLPBias},
			module{hf: p + "mlp.down_proj", gguf: g + "ffn_down", shape: []int{h, ff}, bias: c.MLPBias},
			module{hf: p + "input_layernorm", gguf: g + "attn_norm", shape: []int{h}, norm: true},
			module{hf: p + "post_attention_layernorm", gguf: g + "ffn_norm", shape: []int{h}, norm: true},
		)
	}
	return append(out,
		module{hf: "model.norm", gguf: "output_norm", shape: []int{h}, norm: true},
		module{hf: "lm_head", gguf: "output", shape: []int{c.VocabSize, h}})
}

func rules(c *Config) []model.Rule {
	var out []model.Rule
	for _, m := range modules(c) {
		r := model.Rule{HF: m.hf + ".weight", GGUF: m.gguf + ".weight", Shape: m.shape, Heads: m.heads}
		r.Optional = m.hf == "lm_head" && c.TieWordEmbeddings
		out = append(out, r)
		if m.bias {
			out = append(out, model.Rule{HF: m.hf + ".bias", GGUF: m.gguf + ".bias", Shape: m.shape[:1], Heads: m.heads})
		}
	}
	return append(out, model.Rule{GGUF: "rope_freqs.weight", Shape: []int{c.HeadDim / 2}, Optional: true})
}

// GGUFNames implements model.Family.
func (family) GGUFNames(config json.RawMessage) (*model.Names, error) {
	c, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	n := &model.Names{Arch: "llama", ToGGUF: map[string]string{}, ToHF: map[string]string{}, StoredRow: map[string][]int32{}}
	for _, m := range modules(c) {
		n.ToGGUF[m.hf], n.ToHF[m.gguf] = m.gguf, m.hf
		if m.heads > 0 {
			n.StoredRow[m.hf] = model.HeadOrder(m.shape[0], m.heads)
		}
	}
	return n, nil
}

// GGUFMeta implements model.Family. Keys and order are those of
// convert_hf_to_gguf.py.
func (f family) GGUFMeta(ck *model.Checkpoint) (formats.Meta, []model.Entry, error) {
	if ck.Source.Naming == formats.GGUF {
		return slices.Clone(ck.Source.Meta), nil, nil // rope_freqs is among the entries
	}
	c, err := parseConfig(ck.Config)
	if err != nil {
		return nil, nil, err
	}
	m := formats.Meta{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.type", Value: "model"},
		{Key: "llama.block_count", Value: uint32(c.NumHiddenLayers)},
		{Key: "llama.context_length", Value: uint32(c.MaxPositionEmbeddings)},
		{Key: "llama.embedding_length", Value: uint32(c.HiddenSize)},
		{Key: "llama.feed_forward_length", Value: uint32(c.IntermediateSize)},
		{Key: "llama.attention.head_count", Value: uint32(c.NumAttentionHeads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(c.NumKeyValueHeads)},
		{Key: "llama.rope.freq_base", Value: float32(c.RopeTheta)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(c.RMSNormEps)},
		{Key: "llama.vocab_size", Value: uint32(c.VocabSize)},
		{Key: "llama.rope.dimension_count", Value: uint32(c.HeadDim)},
	}
	if c.HeadDim*c.NumAttentionHeads != c.HiddenSize {
		m.Set("llama.attention.key_length", uint32(c.HeadDim))
		m.Set("llama.attention.value_length", uint32(c.HeadDim))
	}
	var extra []model.Entry
	switch c.ropeType() {
	case "linear":
		m.Set("llama.rope.scaling.type", "linear")
		m.Set("llama.rope.scaling.factor", float32(c.RopeScaling.Factor))
	case "llama3":
		plain := *c
		plain.RopeScaling = nil
		inv, err := plain.invFreq()
		if err != nil {
			return nil, nil, err
		}
		t := tensor.FromFloats("rope_freqs.weight", []int{len(inv)}, llama3Factors(c, inv))
		extra = append(extra, model.Entry{GGUF: t.Name, T: t})
	}
	return m, extra, nil
}

// Build implements model.Family.
func (family) Build(ck *model.Checkpoint, o model.Options) (*model.Model, error) {
	if o.Task != model.CausalLM && o.Task != "" {
		return nil, o.Refuse("llama", model.CausalLM)
	}
	c, err := parseConfig(ck.Config)
	if err != nil {
		return nil, err
	}
	inv, err := c.invFreq()
	if err != nil {
		return nil, err
	}
	n := &network{c: c, rope: nn.NewRoPETable(inv, 1)}
	m := &model.Model{
		Checkpoint: ck, VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, Layers: c.NumHiddenLayers,
		MaxPositions: c.MaxPositionEmbeddings, KVSize: c.NumKeyValueHeads * c.HeadDim,
		TiedHead: c.TieWordEmbeddings, Run: n.run,
	}
	if err := n.build(m); err != nil {
		return nil, err
	}
	return m, nil
}
