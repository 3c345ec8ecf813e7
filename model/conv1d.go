package model

import (
	"fmt"

	"github.com/peftkit/peftkit/nn"
)

// LoadConv1D returns the frozen weight of a layer that Hugging Face keeps as
// [in, out] (transformers' Conv1D), or nil without an error when the checkpoint
// has no such tensor. The matrix stays in the file, in the orientation and type
// that it is stored in.
func (c *Checkpoint) LoadConv1D(hf string) (*nn.Weight, error) {
	t := c.Tensor(hf)
	if t == nil {
		return nil, nil
	}
	if len(t.Shape) != 2 {
		return nil, fmt.Errorf("%s is %v, a Conv1D layer has a matrix: %w", hf, t.Shape, ErrMismatch)
	}
	w, err := t.Stored().Weight()
	if err != nil {
		return nil, err
	}
	return &nn.Weight{Name: hf, Out: t.Shape[1], In: t.Shape[0], Transposed: !t.Transposed, Conv1D: true, Frozen: w}, nil
}
