package decoder

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
)

// Object is a config.json in the making; it is written with sorted keys, as
// transformers does.
type Object map[string]any

// Shortest writes a value that was stored as float32 with the fewest digits that
// give the same float32: 1e-05, not 9.999999747378752e-06.
func Shortest(v float64) json.RawMessage {
	return json.RawMessage(strconv.FormatFloat(v, 'g', -1, 32))
}

// Decimal is Shortest with a decimal point, for keys of which transformers insists
// that they are no integers.
func Decimal(v float64) json.RawMessage {
	s := Shortest(v)
	if !strings.ContainsAny(string(s), ".e") {
		s = append(s, ".0"...)
	}
	return s
}

// Bytes returns the text of config.json.
func (o Object) Bytes() (json.RawMessage, error) {
	b, err := json.MarshalIndent(o, "", "  ")
	return append(b, '\n'), err
}

// Find returns a tensor of an opened model by its name in the file, or nil.
func Find(m *formats.Model, name string) *tensor.Tensor {
	for _, t := range m.Tensors {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Reader reads the metadata of one architecture and remembers the first key that
// is missing.
type Reader struct {
	M    *formats.Model
	Arch string
	Err  error
}

// Int returns an integer that must be there.
func (r *Reader) Int(key string) int64 {
	v, ok := r.M.Meta.Int(r.Arch + "." + key)
	if !ok {
		r.missing(key, "integer")
	}
	return v
}

// Float returns a number that must be there.
func (r *Reader) Float(key string) float64 {
	v, ok := r.M.Meta.Float(r.Arch + "." + key)
	if !ok {
		r.missing(key, "number")
	}
	return v
}

func (r *Reader) missing(key, kind string) {
	if r.Err == nil {
		r.Err = fmt.Errorf("%s: metadata key %s.%s is missing or no %s: %w", r.M.Path, r.Arch, key, kind, model.ErrMismatch)
	}
}

// Tokens puts the special tokens' ids.
func (r *Reader) Tokens(o Object) {
	for hf, gguf := range map[string]string{"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"} {
		o[hf] = nil
		if v, ok := r.M.Meta.Int("tokenizer.ggml." + gguf + "_token_id"); ok {
			o[hf] = v
		}
	}
}

// Vocab returns the number of tokens: the metadata's, else the embedding's rows.
func (r *Reader) Vocab() int64 {
	if v, ok := r.M.Meta.Int(r.Arch + ".vocab_size"); ok {
		return v
	}
	if t := Find(r.M, "token_embd.weight"); t != nil && len(t.Shape) == 2 {
		return int64(t.Shape[0])
	}
	r.missing("vocab_size", "integer")
	return 0
}

// configFromGGUF writes the config.json that corresponds to GGUF metadata. tied
// and the bias flags are read off the tensors.
func (f *Family) configFromGGUF(m *formats.Model) (json.RawMessage, error) {
	r := &Reader{M: m, Arch: f.Arch}
	heads := r.Int("attention.head_count")
	kv, ok := m.Meta.Int(f.Arch + ".attention.head_count_kv")
	if !ok {
		if m.Meta.Get(f.Arch+".attention.head_count_kv") != nil {
			return nil, fmt.Errorf("%s: %s.attention.head_count_kv differs between layers: %w", m.Path, f.Arch, model.ErrUnsupported)
		}
		kv = heads
	}
	hidden := r.Int("embedding_length")
	headDim, ok := m.Meta.Int(f.Arch + ".attention.key_length")
	if !ok && heads > 0 {
		headDim = hidden / heads
	}
	if v, ok := m.Meta.Int(f.Arch + ".attention.value_length"); ok && v != headDim {
		return nil, fmt.Errorf("%s: heads of %d key and %d value features: %w", m.Path, headDim, v, model.ErrUnsupported)
	}
	if e, ok := m.Meta.Int(f.Arch + ".expert_count"); ok && e > 0 {
		return nil, fmt.Errorf("%s: %d experts: mixture-of-experts models are %w", m.Path, e, model.ErrUnsupported)
	}
	theta, ok := m.Meta.Float(f.Arch + ".rope.freq_base")
	if !ok {
		theta = 10000
	}
	rotated := headDim
	if d, ok := m.Meta.Int(f.Arch + ".rope.dimension_count"); ok && d != headDim {
		if !f.PartialRotary {
			return nil, fmt.Errorf("%s: %s.rope.dimension_count is %d but a head has %d features: partial rotation is %w in the %s family", m.Path, f.Arch, d, headDim, model.ErrUnsupported, f.Name())
		}
		rotated = d
	}
	o := Object{
		"architectures": []string{f.Class + causalClass}, "model_type": f.Model,
		"attention_bias": Find(m, "blk.0.attn_q.bias") != nil, "attention_dropout": json.RawMessage("0.0"),
		"head_dim": headDim, "hidden_act": "silu", "hidden_size": hidden, "initializer_range": 0.02,
		"intermediate_size": r.Int("feed_forward_length"), "max_position_embeddings": r.Int("context_length"),
		"mlp_bias": Find(m, "blk.0.ffn_gate.bias") != nil, "num_attention_heads": heads, "num_hidden_layers": r.Int("block_count"),
		"num_key_value_heads": kv, "rms_norm_eps": Shortest(r.Float("attention.layer_norm_rms_epsilon")), "rope_theta": Shortest(theta),
		"tie_word_embeddings": Find(m, "output.weight") == nil, "use_cache": true, "vocab_size": r.Vocab(),
	}
	r.Tokens(o)
	if r.Err != nil {
		return nil, r.Err
	}
	if rotated != headDim && headDim > 0 {
		o["partial_rotary_factor"] = Shortest(float64(rotated) / float64(headDim))
	}
	scaling, err := f.scalingFromGGUF(m, rotated, theta)
	if err != nil {
		return nil, err
	}
	if scaling != nil {
		o["rope_scaling"] = scaling
	}
	if f.FromGGUF != nil {
		if err := f.FromGGUF(m, o); err != nil {
			return nil, formats.At(m.Path, err)
		}
	}
	return o.Bytes()
}

// scalingFromGGUF returns rope_scaling, nil for none.
func (f *Family) scalingFromGGUF(m *formats.Model, rotated int64, theta float64) (Object, error) {
	key := f.Arch + ".rope.scaling."
	kind := m.Meta.Str(key + "type")
	optional := func(o Object, hf, gguf string) {
		if v, ok := m.Meta.Float(key + gguf); ok {
			o[hf] = Shortest(v)
		}
	}
	if long, short := Find(m, ropeLong), Find(m, ropeShort); long != nil && short != nil {
		lf, err := long.AllFloats()
		if err != nil {
			return nil, err
		}
		sf, err := short.AllFloats()
		if err != nil {
			return nil, err
		}
		return Object{"type": ropeLongrope, "long_factor": shortestAll(lf), "short_factor": shortestAll(sf)}, nil
	}
	if t := Find(m, ropeFreqs); t != nil {
		factors, err := t.AllFloats()
		if err != nil {
			return nil, err
		}
		return Llama3FromFactors(m.Path, factors, rotated, theta)
	}
	factor, ok := m.Meta.Float(key + "factor")
	switch kind {
	case "", "none":
		return nil, nil
	case ropeLinear, ropeYarn:
		if !ok {
			return nil, fmt.Errorf("%s: %sfactor is missing: %w", m.Path, key, model.ErrMismatch)
		}
		o := Object{"rope_type": kind, "factor": Shortest(factor)}
		if kind == ropeYarn {
			if n, ok := m.Meta.Int(key + "original_context_length"); ok {
				o["original_max_position_embeddings"] = n
			}
			optional(o, "attention_factor", "yarn_attn_factor")
			optional(o, "beta_fast", "yarn_beta_fast")
			optional(o, "beta_slow", "yarn_beta_slow")
		}
		return o, nil
	}
	return nil, fmt.Errorf("%s: %stype %q: %w; none, linear, yarn, Llama 3's and Phi-3's factors are computed", m.Path, key, kind, model.ErrUnsupported)
}

func shortestAll(v []float32) []json.RawMessage {
	out := make([]json.RawMessage, len(v))
	for i, x := range v {
		out[i] = Shortest(float64(x))
	}
	return out
}

// Llama3FromFactors returns the rope_scaling of Llama 3's table. GGUF keeps the
// factors per frequency; the parameters that give exactly these factors are
// looked for among those that Meta's releases use.
func Llama3FromFactors(path string, factors []float32, rotated int64, theta float64) (Object, error) {
	if int64(len(factors)) != rotated/2 {
		return nil, fmt.Errorf("%s: %s has %d values, expected %d: %w", path, ropeFreqs, len(factors), rotated/2, model.ErrMismatch)
	}
	factor := 1.0
	for _, f := range factors {
		factor = math.Max(factor, float64(f))
	}
	c := &Config{HeadDim: Ptr(int(rotated))}
	inv, _, err := (&Rope{Type: ropeDefault, Theta: theta}).frequencies(c, false)
	if err != nil {
		return nil, err
	}
	for _, original := range []int{8192, 4096, 16384, 32768} {
		r := &Rope{Type: ropeLlama3, Factor: &factor, LowFreq: 1, HighFreq: 4, Original: float64(original)}
		same := true
		for i, f := range r.Llama3Factors(inv) {
			same = same && math.Abs(float64(f-factors[i])) <= 1e-5*float64(f)
		}
		if same {
			return Object{"rope_type": ropeLlama3, "factor": Shortest(factor), "low_freq_factor": json.RawMessage("1.0"),
				"high_freq_factor": json.RawMessage("4.0"), "original_max_position_embeddings": original}, nil
		}
	}
	return nil, fmt.Errorf("%s: %s does not follow Llama 3's scaling with known parameters: %w", path, ropeFreqs, model.ErrUnsupported)
}

// Meta returns the metadata in the order of convert_hf_to_gguf.py.
func (c *Config) Meta(arch string) formats.Meta {
	m := formats.Meta{
		{Key: "general.architecture", Value: arch},
		{Key: "general.type", Value: "model"},
		{Key: arch + ".block_count", Value: uint32(c.NumHiddenLayers)},
		{Key: arch + ".context_length", Value: uint32(c.MaxPositionEmbeddings)},
		{Key: arch + ".embedding_length", Value: uint32(c.HiddenSize)},
		{Key: arch + ".feed_forward_length", Value: uint32(c.IntermediateSize)},
		{Key: arch + ".attention.head_count", Value: uint32(c.NumAttentionHeads)},
		{Key: arch + ".attention.head_count_kv", Value: uint32(c.kvHeads())},
	}
	c.RopeMeta(arch, &m)
	m.Set(arch+".rope.freq_base", float32(c.RopeTheta))
	m.Set(arch+".attention.layer_norm_rms_epsilon", float32(c.RMSNormEps))
	if c.headDim()*c.NumAttentionHeads != c.HiddenSize || c.Variant.QKNorm || c.Variant.Plus1 {
		m.Set(arch+".attention.key_length", uint32(c.headDim()))
		m.Set(arch+".attention.value_length", uint32(c.headDim()))
	}
	return m
}

// RopeMeta adds the keys of linear and YaRN scaling; Llama 3's and Phi-3's are tensors.
func (c *Config) RopeMeta(arch string, m *formats.Meta) {
	r, key := c.global, arch+".rope.scaling."
	if r.Type != ropeLinear && r.Type != ropeYarn {
		return
	}
	factor := float64(c.MaxPositionEmbeddings) / r.Original
	if r.Factor != nil {
		factor = *r.Factor
	}
	m.Set(key+"type", r.Type)
	m.Set(key+"factor", float32(factor))
	if r.Type != ropeYarn {
		return
	}
	m.Set(key+"original_context_length", uint32(r.Original))
	if r.AttentionFactor != nil {
		m.Set(key+"yarn_attn_factor", float32(*r.AttentionFactor))
	}
	for _, kv := range []struct {
		name string
		v    float64
	}{{"yarn_beta_fast", r.BetaFast}, {"yarn_beta_slow", r.BetaSlow}} {
		if kv.v != 0 {
			m.Set(key+kv.name, float32(kv.v))
		}
	}
}
