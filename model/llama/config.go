// Package llama is the Llama family of decoder-only models: Llama 1 to 3,
// TinyLlama, SmolLM and SmolLM2, and everything else whose config.json says
// LlamaForCausalLM or whose GGUF says general.architecture = llama.
//
// The network follows transformers' modeling_llama: RMS norm before attention
// and before the gated MLP, rotary positions on halves of a head, grouped
// key/value heads.
package llama

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
)

// Config is the part of config.json that the network depends on, with
// transformers' names and defaults (LlamaConfig).
type Config struct {
	HiddenSize            int       `json:"hidden_size"`
	IntermediateSize      int       `json:"intermediate_size"`
	NumHiddenLayers       int       `json:"num_hidden_layers"`
	NumAttentionHeads     int       `json:"num_attention_heads"`
	NumKeyValueHeads      int       `json:"num_key_value_heads"`
	HeadDim               int       `json:"head_dim"`
	HiddenAct             string    `json:"hidden_act"`
	RMSNormEps            float64   `json:"rms_norm_eps"`
	MaxPositionEmbeddings int       `json:"max_position_embeddings"`
	VocabSize             int       `json:"vocab_size"`
	TieWordEmbeddings     bool      `json:"tie_word_embeddings"`
	AttentionBias         bool      `json:"attention_bias"`
	MLPBias               bool      `json:"mlp_bias"`
	RopeTheta             float64   `json:"rope_theta"`
	RopeScaling           *Rope     `json:"rope_scaling"`
	RopeParameters        *Rope     `json:"rope_parameters"` // transformers 5: theta and scaling in one
	PretrainingTP         int       `json:"pretraining_tp"`
	BOS                   *tokenIDs `json:"bos_token_id"`
	EOS                   *tokenIDs `json:"eos_token_id"`
}

// Rope is rope_scaling of older and rope_parameters of newer configurations.
type Rope struct {
	Type      string  `json:"rope_type"`
	OldType   string  `json:"type"`
	Theta     float64 `json:"rope_theta"`
	Factor    float64 `json:"factor"`
	LowFreq   float64 `json:"low_freq_factor"`
	HighFreq  float64 `json:"high_freq_factor"`
	Original  int     `json:"original_max_position_embeddings"`
	PartialRF float64 `json:"partial_rotary_factor"`
}

// tokenIDs is one id or a list of ids.
type tokenIDs []int

func (t *tokenIDs) UnmarshalJSON(b []byte) error {
	var one int
	if json.Unmarshal(b, &one) == nil {
		*t = tokenIDs{one}
		return nil
	}
	return json.Unmarshal(b, (*[]int)(t))
}

// parseConfig reads config.json and checks everything the network relies on.
func parseConfig(raw json.RawMessage) (*Config, error) {
	c := &Config{HiddenAct: "silu", RMSNormEps: 1e-6, MaxPositionEmbeddings: 2048, RopeTheta: 10000}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if c.NumKeyValueHeads == 0 {
		c.NumKeyValueHeads = c.NumAttentionHeads
	}
	if c.HeadDim == 0 && c.NumAttentionHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	}
	if c.RopeParameters != nil {
		if c.RopeParameters.Theta > 0 {
			c.RopeTheta = c.RopeParameters.Theta
		}
		if c.RopeScaling == nil {
			c.RopeScaling = c.RopeParameters
		}
	}
	return c, c.check()
}

// Limits that no real model comes near; beyond them a header is absurd.
const (
	maxDim    = 1 << 20
	maxLayers = 1024
	maxVocab  = 1 << 24
)

func (c *Config) check() error {
	for _, d := range []struct {
		name   string
		v, max int
	}{
		{"hidden_size", c.HiddenSize, maxDim}, {"intermediate_size", c.IntermediateSize, maxDim},
		{"num_hidden_layers", c.NumHiddenLayers, maxLayers}, {"num_attention_heads", c.NumAttentionHeads, maxDim},
		{"num_key_value_heads", c.NumKeyValueHeads, maxDim}, {"head_dim", c.HeadDim, maxDim},
		{"vocab_size", c.VocabSize, maxVocab}, {"max_position_embeddings", c.MaxPositionEmbeddings, 1 << 30},
	} {
		if d.v < 1 || d.v > d.max {
			return fmt.Errorf("config: %s is %d, expected 1 to %d: %w", d.name, d.v, d.max, model.ErrMismatch)
		}
	}
	switch {
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return fmt.Errorf("config: %d attention heads are no multiple of %d key/value heads: %w", c.NumAttentionHeads, c.NumKeyValueHeads, model.ErrMismatch)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("config: head_dim %d is odd, rotary positions need pairs: %w", c.HeadDim, model.ErrMismatch)
	case c.HiddenAct != "silu" && c.HiddenAct != "swish":
		return fmt.Errorf("config: hidden_act %q: %w; the Llama family computes silu", c.HiddenAct, model.ErrUnsupported)
	case c.RMSNormEps <= 0 || c.RopeTheta <= 0:
		return fmt.Errorf("config: rms_norm_eps %g and rope_theta %g must be positive: %w", c.RMSNormEps, c.RopeTheta, model.ErrMismatch)
	case c.PretrainingTP > 1:
		return fmt.Errorf("config: pretraining_tp %d: %w; convert the model to pretraining_tp 1", c.PretrainingTP, model.ErrUnsupported)
	}
	if r := c.RopeScaling; r != nil && r.PartialRF != 0 && r.PartialRF != 1 {
		return fmt.Errorf("config: partial_rotary_factor %g: %w in the Llama family", r.PartialRF, model.ErrUnsupported)
	}
	_, err := c.invFreq()
	return err
}

// ropeType returns the scaling kind: default, linear or llama3.
func (c *Config) ropeType() string {
	if c.RopeScaling == nil {
		return "default"
	}
	if c.RopeScaling.Type != "" {
		return c.RopeScaling.Type
	}
	if c.RopeScaling.OldType != "" {
		return c.RopeScaling.OldType
	}
	return "default"
}

// invFreq returns the head_dim/2 inverse frequencies, scaled as transformers'
// modeling_rope_utils does, in float32 at the same points.
func (c *Config) invFreq() ([]float32, error) {
	n := c.HeadDim / 2
	inv := make([]float32, n)
	for i := range inv {
		// torch: 1.0 / (base ** (arange(0, dim, 2, float) / dim)), all float32.
		p := float32(math.Pow(float64(float32(c.RopeTheta)), float64(float32(2*i)/float32(c.HeadDim))))
		inv[i] = 1 / p
	}
	r := c.RopeScaling
	switch c.ropeType() {
	case "default":
	case "linear":
		if r.Factor < 1 {
			return nil, fmt.Errorf("config: rope_scaling linear: factor %g, expected 1 or more: %w", r.Factor, model.ErrMismatch)
		}
		for i := range inv {
			inv[i] /= float32(r.Factor)
		}
	case "llama3":
		if r.Factor < 1 || r.LowFreq <= 0 || r.HighFreq <= r.LowFreq || r.Original < 1 {
			return nil, fmt.Errorf("config: rope_scaling llama3 needs factor, low_freq_factor < high_freq_factor and original_max_position_embeddings, found %+v: %w", *r, model.ErrMismatch)
		}
		for i, f := range llama3Factors(c, inv) {
			inv[i] /= f
		}
	default:
		return nil, fmt.Errorf("config: rope_scaling type %q: %w; default, linear and llama3 are computed", c.ropeType(), model.ErrUnsupported)
	}
	return inv, nil
}

// llama3Factors returns by how much each frequency is lowered: what GGUF keeps
// as rope_freqs.weight.
func llama3Factors(c *Config, inv []float32) []float32 {
	r := c.RopeScaling
	old := float64(r.Original)
	out := make([]float32, len(inv))
	for i, f := range inv {
		wavelen := 2 * math.Pi / float64(f)
		switch {
		case wavelen < old/r.HighFreq:
			out[i] = 1
		case wavelen > old/r.LowFreq:
			out[i] = float32(r.Factor)
		default:
			s := (old/wavelen - r.LowFreq) / (r.HighFreq - r.LowFreq)
			out[i] = float32(1 / ((1-s)/r.Factor + s))
		}
	}
	return out
}

// configFromGGUF writes the config.json that corresponds to GGUF metadata.
// tied and the bias flags are read off the tensors.
func configFromGGUF(m *formats.Model) (json.RawMessage, error) {
	arch := m.Meta.Str("general.architecture")
	has := func(name string) bool {
		for _, t := range m.Tensors {
			if t.Name == name {
				return true
			}
		}
		return false
	}
	var missing error
	num := func(key string) int64 {
		v, ok := m.Meta.Int(arch + "." + key)
		if !ok && missing == nil {
			missing = fmt.Errorf("%s: metadata key %s.%s is missing or no integer: %w", m.Path, arch, key, model.ErrMismatch)
		}
		return v
	}
	heads := num("attention.head_count")
	kv, ok := m.Meta.Int(arch + ".attention.head_count_kv")
	if !ok {
		if m.Meta.Get(arch+".attention.head_count_kv") != nil {
			return nil, fmt.Errorf("%s: %s.attention.head_count_kv differs between layers: %w", m.Path, arch, model.ErrUnsupported)
		}
		kv = heads
	}
	hidden := num("embedding_length")
	headDim, ok := m.Meta.Int(arch + ".attention.key_length")
	if !ok && heads > 0 {
		headDim = hidden / heads
	}
	if d, ok := m.Meta.Int(arch + ".rope.dimension_count"); ok && d != headDim {
		return nil, fmt.Errorf("%s: %s.rope.dimension_count is %d but a head has %d features: partial rotation is %w in the Llama family", m.Path, arch, d, headDim, model.ErrUnsupported)
	}
	if e, ok := m.Meta.Int(arch + ".expert_count"); ok && e > 0 {
		return nil, fmt.Errorf("%s: %d experts: mixture-of-experts models are %w", m.Path, e, model.ErrUnsupported)
	}
	eps, ok := m.Meta.Float(arch + ".attention.layer_norm_rms_epsilon")
	if !ok {
		return nil, fmt.Errorf("%s: metadata key %s.attention.layer_norm_rms_epsilon is missing: %w", m.Path, arch, model.ErrMismatch)
	}
	theta, ok := m.Meta.Float(arch + ".rope.freq_base")
	if !ok {
		theta = 10000
	}
	vocab, ok := m.Meta.Int(arch + ".vocab_size")
	if !ok {
		for _, t := range m.Tensors {
			if t.Name == "token_embd.weight" && len(t.Shape) == 2 {
				vocab = int64(t.Shape[0])
			}
		}
	}
	var b bytes.Buffer
	b.WriteString("{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\"")
	put := func(key string, v any) {
		j, _ := json.Marshal(v)
		fmt.Fprintf(&b, ",\n  %q: %s", key, j)
	}
	put("attention_bias", has("blk.0.attn_q.bias"))
	put("attention_dropout", 0.0)
	for _, id := range []struct{ hf, gguf string }{{"bos_token_id", "bos"}, {"eos_token_id", "eos"}, {"pad_token_id", "padding"}} {
		if v, ok := m.Meta.Int("tokenizer.ggml." + id.gguf + "_token_id"); ok {
			put(id.hf, v)
		}
	}
	put("head_dim", headDim)
	put("hidden_act", "silu")
	put("hidden_size", hidden)
	put("initializer_range", 0.02)
	put("intermediate_size", num("feed_forward_length"))
	put("max_position_embeddings", num("context_length"))
	put("mlp_bias", has("blk.0.ffn_gate.bias"))
	put("num_attention_heads", heads)
	put("num_hidden_layers", num("block_count"))
	put("num_key_value_heads", kv)
	put("rms_norm_eps", shortest(eps))
	put("rope_theta", shortest(theta))
	scaling, err := scalingFromGGUF(m, arch, headDim, theta)
	if err != nil {
		return nil, err
	}
	if scaling != nil {
		put("rope_scaling", scaling)
	}
	put("tie_word_embeddings", !has("output.weight"))
	put("use_cache", true)
	put("vocab_size", vocab)
	b.WriteString("\n}\n")
	return b.Bytes(), missing
}

// shortest writes a value that was stored as float32 with the fewest digits that
// give the same float32: 1e-05, not 9.999999747378752e-06.
func shortest(v float64) json.RawMessage {
	return json.RawMessage(strconv.FormatFloat(v, 'g', -1, 32))
}

// scalingFromGGUF returns rope_scaling, nil for none. GGUF keeps Llama 3's
// scaling as factors per frequency; the parameters that give exactly these
// factors are looked for among those that Meta's releases use.
func scalingFromGGUF(m *formats.Model, arch string, headDim int64, theta float64) (map[string]any, error) {
	var factors []float32
	for _, t := range m.Tensors {
		if t.Name == "rope_freqs.weight" {
			f, err := t.AllFloats()
			if err != nil {
				return nil, err
			}
			factors = f
		}
	}
	kind := m.Meta.Str(arch + ".rope.scaling.type")
	switch {
	case factors != nil:
		return llama3FromFactors(m.Path, factors, headDim, theta)
	case kind == "" || kind == "none":
		return nil, nil
	case kind == "linear":
		f, ok := m.Meta.Float(arch + ".rope.scaling.factor")
		if !ok {
			return nil, fmt.Errorf("%s: %s.rope.scaling.factor is missing: %w", m.Path, arch, model.ErrMismatch)
		}
		return map[string]any{"rope_type": "linear", "factor": shortest(f)}, nil
	}
	return nil, fmt.Errorf("%s: %s.rope.scaling.type %q: %w; none, linear and Llama 3's factors are computed", m.Path, arch, kind, model.ErrUnsupported)
}

func llama3FromFactors(path string, factors []float32, headDim int64, theta float64) (map[string]any, error) {
	if int64(len(factors)) != headDim/2 {
		return nil, fmt.Errorf("%s: rope_freqs.weight has %d values, expected %d: %w", path, len(factors), headDim/2, model.ErrMismatch)
	}
	factor := 1.0
	for _, f := range factors {
		factor = math.Max(factor, float64(f))
	}
	c := &Config{HeadDim: int(headDim), RopeTheta: theta}
	inv, err := c.invFreq()
	if err != nil {
		return nil, err
	}
	for _, original := range []int{8192, 4096, 16384, 32768} {
		c.RopeScaling = &Rope{Type: "llama3", Factor: factor, LowFreq: 1, HighFreq: 4, Original: original}
		same := true
		for i, f := range llama3Factors(c, inv) {
			same = same && math.Abs(float64(f-factors[i])) <= 1e-5*float64(f)
		}
		if same {
			return map[string]any{"rope_type": "llama3", "factor": shortest(factor), "low_freq_factor": 1.0,
				"high_freq_factor": 4.0, "original_max_position_embeddings": original}, nil
		}
	}
	return nil, fmt.Errorf("%s: rope_freqs.weight does not follow Llama 3's scaling with known parameters: %w", path, model.ErrUnsupported)
}
