package decoder

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
)

// ggufRope is what llama.cpp computes of the keys of rotary scaling.
type ggufRope struct {
	kind string
	// factor divides all frequencies, attn multiplies cosines and sines.
	factor, attn float64
	original     int64
}

// readRope reads the keys as llama.cpp's load_hparams does: without a type the
// scaling is linear, the old key scale_linear counts where scaling.factor is not,
// a factor of 0 is none.
func readRope(m *formats.Model, arch string) (*ggufRope, error) {
	key := arch + ".rope."
	r := &ggufRope{kind: ropeLinear, factor: 1, attn: 1}
	if s := m.Meta.Str(key + "scaling.type"); s != "" {
		r.kind = s
	}
	named := key + "scaling.factor"
	v, ok := m.Meta.Float(named)
	if !ok {
		named = key + "scale_linear"
		v, ok = m.Meta.Float(named)
	}
	if ok && v != 0 {
		r.factor = v
	}
	if v, ok := m.Meta.Float(key + "scaling.attn_factor"); ok {
		r.attn = v
	}
	r.original, _ = m.Meta.Int(arch + ".context_length")
	if n, ok := m.Meta.Int(key + "scaling.original_context_length"); ok && n > 0 {
		r.original = n
	}
	switch {
	case !(r.factor > 0) || math.IsInf(r.factor, 0):
		return nil, fmt.Errorf("%s: %s is %g, expected more than 0, or 0 for none: %w", m.Path, named, v, model.ErrMismatch)
	case !(r.attn > 0) || math.IsInf(r.attn, 0):
		return nil, fmt.Errorf("%s: %sscaling.attn_factor is %g, expected more than 0: %w", m.Path, key, r.attn, model.ErrMismatch)
	case r.kind == ropeYarn && r.factor < 1:
		return nil, fmt.Errorf("%s: %s is %g with %sscaling.type yarn: %w; factors from 1 on are computed", m.Path, named, r.factor, key, model.ErrUnsupported)
	case !slices.Contains([]string{"none", ropeLinear, ropeYarn, ropeLongrope}, r.kind):
		return nil, fmt.Errorf("%s: %sscaling.type is %q: %w; llama.cpp has none, linear, yarn and longrope", m.Path, key, r.kind, model.ErrUnsupported)
	}
	if r.kind == "none" {
		r.factor = 1
	}
	return r, nil
}

// scalingFromGGUF returns rope_scaling, nil for none. What transformers has no
// type of its own for is written as longrope, which has a factor for every
// frequency and one for cosines and sines.
func (f *Family) scalingFromGGUF(m *formats.Model, rotated int64, theta float64) (Object, error) {
	r, err := readRope(m, f.Arch)
	if err != nil {
		return nil, err
	}
	long, short, freqs := Find(m, ropeLong), Find(m, ropeShort), Find(m, ropeFreqs)
	tables := long != nil && short != nil || freqs != nil
	if tables && r.kind == ropeYarn && r.factor != 1 {
		return nil, fmt.Errorf("%s: %s.rope.scaling.type yarn together with a table of factors: %w", m.Path, f.Arch, model.ErrUnsupported)
	}
	switch {
	case long != nil && short != nil:
		return f.longropeFromGGUF(m, r, long, short)
	case freqs != nil:
		v, err := freqs.AllFloats()
		if err != nil {
			return nil, err
		}
		if r.factor == 1 && r.attn == 1 {
			o, err := Llama3FromFactors(m.Path, v, rotated, theta)
			if err == nil || int64(len(v)) != rotated/2 {
				return o, err
			}
		}
		return r.longrope(v, v), nil
	case r.factor == 1 && r.attn == 1:
		return nil, nil
	case r.kind == ropeYarn && r.factor != 1:
		o := Object{"rope_type": ropeYarn, "factor": Decimal(r.factor), "original_max_position_embeddings": r.original}
		if r.attn != 1 {
			o["attention_factor"] = Decimal(yarnScale(r.factor, 1) * r.attn)
		}
		return o, nil
	case r.attn == 1:
		return Object{"rope_type": ropeLinear, "factor": Decimal(r.factor)}, nil
	}
	ones := slices.Repeat([]float32{1}, int(max(rotated/2, 0)))
	return r.longrope(ones, ones), nil
}

// longrope returns rope_scaling with a factor for each frequency.
func (r *ggufRope) longrope(short, long []float32) Object {
	scaled := func(v []float32) []json.RawMessage {
		out := make([]json.RawMessage, len(v))
		for i, x := range v {
			out[i] = Decimal(float64(float32(float64(x) * r.factor)))
		}
		return out
	}
	return Object{"rope_type": ropeLongrope, "long_factor": scaled(long), "short_factor": scaled(short),
		"attention_factor": Decimal(r.attn), "original_max_position_embeddings": r.original}
}

func (f *Family) longropeFromGGUF(m *formats.Model, r *ggufRope, long, short *tensor.Tensor) (Object, error) {
	lf, err := long.AllFloats()
	if err != nil {
		return nil, err
	}
	sf, err := short.AllFloats()
	if err != nil {
		return nil, err
	}
	o := r.longrope(sf, lf)
	o["type"] = ropeLongrope // the key that Phi-3's own releases use
	delete(o, "rope_type")
	delete(o, "original_max_position_embeddings")
	ctx, _ := m.Meta.Int(f.Arch + ".context_length")
	usual := (&Rope{Original: float64(r.original)}).LongropeScale(&Config{MaxPositionEmbeddings: int(ctx)})
	if float32(usual) == float32(r.attn) {
		delete(o, "attention_factor")
	}
	return o, nil
}

// ropeMeta returns the keys and the tensors by which llama.cpp computes the
// scaling of full attention; an error says what it cannot.
func (f *Family) ropeMeta(c *Config) (formats.Meta, []model.Entry, error) {
	r, key := c.global, f.Arch+".rope.scaling."
	var m formats.Meta
	var extra []model.Entry
	add := func(name string, v []float32) {
		extra = append(extra, model.Entry{GGUF: name, T: tensor.FromFloats(name, []int{len(v)}, v)})
	}
	refuse := func(what string) error {
		return fmt.Errorf("rope scaling %s: %s: %w in GGUF; keep the Hugging Face folder", r.Type, what, model.ErrUnsupported)
	}
	switch r.Type {
	case ropeLinear:
		m.Set(key+"type", ropeLinear)
		m.Set(key+"factor", float32(*r.Factor))
	case ropeYarn:
		if r.BetaFast != 0 && r.BetaFast != 32 || r.BetaSlow != 0 && r.BetaSlow != 1 {
			return nil, nil, refuse(fmt.Sprintf("beta_fast %g, beta_slow %g: llama.cpp computes %s with 32 and 1 whatever the keys say", r.BetaFast, r.BetaSlow, f.Arch))
		}
		if r.Truncate != nil && !*r.Truncate {
			return nil, nil, refuse("truncate false: llama.cpp always rounds the range")
		}
		_, scale, err := r.frequencies(c, false)
		if err != nil {
			return nil, nil, err
		}
		factor := r.yarnFactor(c)
		m.Set(key+"type", ropeYarn)
		m.Set(key+"factor", float32(factor))
		m.Set(key+"original_context_length", uint32(r.Original))
		if usual := float32(yarnScale(factor, 1)); scale != usual {
			m.Set(key+"attn_factor", scale/usual)
		}
	case ropeLlama3:
		if f.Arch != "llama" {
			return nil, nil, refuse("llama.cpp computes it for Llama only, not for " + f.Arch)
		}
		plain := *r
		plain.Type = ropeDefault
		inv, _, err := plain.frequencies(c, false)
		if err != nil {
			return nil, nil, err
		}
		add(ropeFreqs, r.Llama3Factors(inv))
	case ropeDynamic:
		return nil, nil, refuse("llama.cpp has no scaling that grows with the text")
	case ropeLongrope:
		if f.Arch == "phi3" { // its attn_factor is among the family's own keys
			add(ropeLong, floats32(r.LongFactor))
			add(ropeShort, floats32(r.ShortFactor))
			break
		}
		if !slices.Equal(r.ShortFactor, r.LongFactor) {
			return nil, nil, refuse("llama.cpp has factors for short and for long texts for Phi-3 only, not for " + f.Arch)
		}
		first := r.ShortFactor[0]
		switch uniform := !slices.ContainsFunc(r.ShortFactor, func(v float64) bool { return v != first }); {
		case uniform && first != 1:
			m.Set(key+"type", ropeLinear)
			m.Set(key+"factor", float32(first))
		case uniform:
		case f.Arch == "llama":
			add(ropeFreqs, floats32(r.ShortFactor))
		default:
			return nil, nil, refuse("llama.cpp has a factor for each frequency for Llama only, not for " + f.Arch)
		}
		if a := float32(r.LongropeScale(c)); a != 1 {
			m.Set(key+"attn_factor", a)
		}
	}
	return m, extra, nil
}
