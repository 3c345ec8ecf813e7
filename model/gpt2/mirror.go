package gpt2

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
)

var _ model.Mirrorer = family{}

// Mirror implements model.Mirrorer.
func (family) Mirror(raw json.RawMessage, s model.Sizes) (json.RawMessage, []model.Rule, error) {
	o := decoder.Object{}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, nil, fmt.Errorf("config.json: %w", err)
	}
	o["architectures"], o["tie_word_embeddings"] = []string{baseClass}, true
	o.Resize("n_layer", s.Layers)
	o.Resize("n_embd", s.Hidden)
	o.Resize("n_head", s.Heads)
	o.Resize("n_inner", s.Intermediate)
	out, err := o.Bytes()
	if err != nil {
		return nil, nil, err
	}
	c, err := parseConfig(out)
	if err != nil {
		return nil, nil, err
	}
	return out, c.rules(baseClass), nil
}

// Deviation implements model.Mirrorer: layers that write to the residual stream begin
// smaller, by the root of their number.
func (family) Deviation(raw json.RawMessage, hf string) (float64, error) {
	c, err := parseConfig(raw)
	if err != nil {
		return 0, err
	}
	if strings.HasSuffix(hf, "c_proj.weight") {
		return c.InitializerRange / math.Sqrt(2*float64(c.Layers)), nil
	}
	return c.InitializerRange, nil
}
