package glora

import (
	"fmt"
	"io"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

// zeros is a tensor of zeros in the file, of a part that is nothing.
type zeros struct {
	name  string
	shape []int
}

// Export implements tuner.Exporter.
func (c *config) Export(*tuner.Adapter) []formats.OutTensor {
	var out []formats.OutTensor
	for _, z := range c.zeros {
		out = append(out, formats.OutTensor{Name: z.name, Type: tensor.F32, Shape: z.shape, WriteTo: func(w io.Writer) error {
			row := make([]float32, z.shape[len(z.shape)-1])
			for range rows(z.shape) {
				if err := peft.WriteFloats(w, tensor.F32, row); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	return out
}

func rows(shape []int) int {
	if len(shape) == 1 {
		return 1
	}
	return shape[0]
}

// Loading implements tuner.Loader. PEFT would add other numbers than zeros.
func (c *config) Loading(_ *tuner.Adapter, set *peft.TensorSet) error {
	if len(set.Rest()) == 0 {
		return nil // reported with the rest
	}
	for _, z := range c.zeros {
		t := set.Take(z.name)
		if t == nil {
			return fmt.Errorf("%s is missing: %w", z.name, peft.ErrTensors)
		}
		if !slices.Equal(t.Shape, z.shape) {
			return fmt.Errorf("%s has shape %v, the model and the configuration want %v: %w", z.name, t.Shape, z.shape, peft.ErrTensors)
		}
		row := make([]float32, t.Cols())
		for r := range t.Rows() {
			if err := t.Floats(row, r, r+1); err != nil {
				return err
			}
			if slices.ContainsFunc(row, func(v float32) bool { return v != 0 }) {
				return fmt.Errorf("%s holds other numbers than zeros, and the configuration says that nothing is there: %w", z.name, peft.ErrTensors)
			}
		}
	}
	return nil
}

var (
	_ tuner.Loader   = (*config)(nil)
	_ tuner.Exporter = (*config)(nil)
)
