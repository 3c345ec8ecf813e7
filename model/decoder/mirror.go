package decoder

import (
	"encoding/json"
	"fmt"

	"github.com/peftkit/peftkit/model"
)

var _ model.Mirrorer = (*Family)(nil)

// Mirror implements model.Mirrorer.
func (f *Family) Mirror(raw json.RawMessage, s model.Sizes) (json.RawMessage, []model.Rule, error) {
	c, err := f.parse(raw)
	if err != nil {
		return nil, nil, err
	}
	o := Object{}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	o["architectures"], o["tie_word_embeddings"] = []string{f.Class + baseClass}, true
	if f.StoresHeadDim {
		o["head_dim"] = c.headDim()
	}
	o.Resize("num_hidden_layers", s.Layers)
	o.Resize("hidden_size", s.Hidden)
	o.Resize("num_attention_heads", s.Heads)
	o.Resize("intermediate_size", s.Intermediate)
	if s.Layers > 0 {
		c.eachLayer(o, s.Layers)
	}
	out, err := o.Bytes()
	if err != nil {
		return nil, nil, err
	}
	if c, err = f.parse(out); err != nil {
		return nil, nil, err
	}
	return out, c.rules(baseClass), nil
}

// Resize sets a size; 0 leaves it.
func (o Object) Resize(key string, v int) {
	if v > 0 {
		o[key] = v
	}
}

// eachLayer writes what differs between layers for another number of them: the first
// ones are those of before, more are like the last.
func (c *Config) eachLayer(o Object, layers int) {
	of := func(l int) int { return min(l, c.NumHiddenLayers-1) }
	if c.LayerTypes != nil || c.Variant.Windows != nil {
		types := make([]string, layers)
		for l := range types {
			types[l] = fullAttention
			if c.Variant.Windows != nil && c.Variant.Windows[of(l)] > 0 {
				types[l] = slidingAttention
			}
		}
		o["layer_types"] = types
	}
	if c.Variant.NoRope != nil {
		rope := make([]int, layers)
		for l := range rope {
			if !c.Variant.NoRope[of(l)] {
				rope[l] = 1
			}
		}
		o["no_rope_layers"] = rope
	}
}

// Deviation implements model.Mirrorer.
func (f *Family) Deviation(raw json.RawMessage, _ string) (float64, error) {
	c, err := f.parse(raw)
	if err != nil {
		return 0, err
	}
	return c.InitializerRange, nil
}
