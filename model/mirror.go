package model

import (
	"encoding/json"
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// Sizes are those of a network that is like another; 0 leaves one as it is.
type Sizes struct {
	Layers, Hidden, Heads, Intermediate int
}

// Mirrorer is implemented by families that can make a new network like one of theirs.
type Mirrorer interface {
	// Mirror returns the configuration of a bare model (transformers' class without a
	// head) like that of config but for some sizes, as transformers has it after these
	// attributes were set, and the tensors that it wants.
	Mirror(config json.RawMessage, s Sizes) (json.RawMessage, []Rule, error)
	// Deviation is that of the normal distribution from which transformers draws a
	// matrix of a new network.
	Deviation(config json.RawMessage, hf string) (float64, error)
}

// Mirror returns a checkpoint of zeros like c but for some sizes. Its family must be a
// [Mirrorer], else the error wraps ErrUnsupported.
func (c *Checkpoint) Mirror(s Sizes) (*Checkpoint, error) {
	f, ok := c.Family.(Mirrorer)
	if !ok {
		return nil, fmt.Errorf("the %s family makes no new networks: %w", c.Family.Name(), ErrUnsupported)
	}
	config, rules, err := f.Mirror(c.Config, s)
	if err != nil {
		return nil, err
	}
	m := &formats.Model{Path: c.Source.Path, Format: c.Source.Format, Naming: formats.HF, Config: config}
	most := 0
	for _, r := range rules {
		if r.HF != "" && !r.Optional {
			m.Tensors = append(m.Tensors, &tensor.Tensor{Name: r.HF, Type: tensor.F32, Shape: r.Shape})
			most = max(most, int(m.Tensors[len(m.Tensors)-1].Elements()))
		}
	}
	zeros := make([]byte, 4*most) // one for all: pages that nobody reads cost nothing
	for _, t := range m.Tensors {
		t.Data = zeros[:4*t.Elements()]
	}
	return c.Family.Open(m)
}
