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
		v, ok = r.uniform(r.Arch + "." + key)
	}
	if !ok {
		r.missing(key, "integer")
	}
	return v
}

// uniform returns the value of a list with one number for each layer, all equal.
func (r *Reader) uniform(key string) (int64, bool) {
	v := r.M.Meta.Get(key)
	var list []int64
	switch x := v.(type) {
	case []uint32:
		for _, n := range x {
			list = append(list, int64(n))
		}
	case []int32:
		for _, n := range x {
			list = append(list, int64(n))
		}
	default:
		return 0, false
	}
	for _, n := range list {
		if n != list[0] {
			if r.Err == nil {
				r.Err = fmt.Errorf("%s: %s is %v: layers of different sizes are %w", r.M.Path, key, list, model.ErrUnsupported)
			}
			return list[0], true
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	return list[0], true
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

// Vocab returns the number of tokens: the embedding's rows. llama.cpp does not
// compute with the key vocab_size either.
func (r *Reader) Vocab() int64 {
	if t := Find(r.M, "token_embd.weight"); t != nil && len(t.Shape) == 2 {
		return int64(t.Shape[0])
	}
	if r.Err == nil {
		r.Err = fmt.Errorf("%s: token_embd.weight is missing or no matrix: %w", r.M.Path, model.ErrMismatch)
	}
	return 0
}

// configFromGGUF writes the config.json that corresponds to GGUF metadata. tied
// and the bias flags are read off the tensors.
func (f *Family) configFromGGUF(m *formats.Model) (json.RawMessage, error) {
	r := &Reader{M: m, Arch: f.Arch}
	if err := model.CheckMeta(m, f.Arch, f.Keys(formats.GGUF)); err != nil {
		return nil, err
	}
	heads := r.Int("attention.head_count")
	kv := heads
	if m.Meta.Get(f.Arch+".attention.head_count_kv") != nil {
		kv = r.Int("attention.head_count_kv")
	}
	hidden := r.Int("embedding_length")
	headDim, ok := m.Meta.Int(f.Arch + ".attention.key_length")
	if !ok && heads > 0 {
		headDim = hidden / heads
	}
	if v, ok := m.Meta.Int(f.Arch + ".attention.value_length"); ok && v != headDim {
		return nil, fmt.Errorf("%s: heads of %d key and %d value features: %w", m.Path, headDim, v, model.ErrUnsupported)
	}
	if f.Windowed {
		for swa, full := range map[string]int64{"attention.key_length_swa": headDim, "attention.value_length_swa": headDim, "rope.dimension_count_swa": headDim} {
			if v, ok := m.Meta.Int(f.Arch + "." + swa); ok && v != full {
				return nil, fmt.Errorf("%s: metadata key %s.%s is %d, other layers have %d: %w", m.Path, f.Arch, swa, v, full, model.ErrUnsupported)
			}
		}
	}
	theta, ok := m.Meta.Float(f.Arch + ".rope.freq_base")
	if !ok {
		theta = 10000 // llama.cpp's default for every architecture
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
	m.Set(arch+".rope.freq_base", float32(c.RopeTheta))
	m.Set(arch+".attention.layer_norm_rms_epsilon", float32(c.RMSNormEps))
	if c.headDim()*c.NumAttentionHeads != c.HiddenSize || c.Variant.QKNorm || c.Variant.Plus1 {
		m.Set(arch+".attention.key_length", uint32(c.headDim()))
		m.Set(arch+".attention.value_length", uint32(c.headDim()))
	}
	return m
}
