package lily

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// copied is a tensor of the file that repeats a parameter under another module's name.
type copied struct {
	name string
	of   *nn.Param
}

// Export implements tuner.Exporter.
func (c *config) Export(*tuner.Adapter) []formats.OutTensor {
	var out []formats.OutTensor
	for _, x := range c.copies {
		t := peft.OutParam(x.of)
		t.Name = x.name
		out = append(out, t)
	}
	return out
}

// Loading implements tuner.Loader. Copies that differ were not shared when the file
// was made, and would be changed into the last of them by PEFT.
func (c *config) Loading(_ *tuner.Adapter, set *peft.TensorSet) error {
	if len(set.Rest()) == 0 {
		return nil // reported with the rest
	}
	first := map[*nn.Param][]float32{}
	for _, x := range c.copies {
		of := set.Peek(x.of.Name)
		t := set.Take(x.name)
		if t == nil {
			return fmt.Errorf("%s is missing: %w", x.name, peft.ErrTensors)
		}
		if !slices.Equal(t.Shape, x.of.Shape) {
			return fmt.Errorf("%s has shape %v, the model and the configuration want %v: %w", x.name, t.Shape, x.of.Shape, peft.ErrTensors)
		}
		if of == nil || !slices.Equal(of.Shape, t.Shape) {
			continue // reported with the rest
		}
		got, err := t.AllFloats()
		if err != nil {
			return err
		}
		want := first[x.of]
		if want == nil {
			if want, err = of.AllFloats(); err != nil {
				return err
			}
			first[x.of] = want
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s and %s differ, and by target_modules and stride_A %d they are one: set both to what the file was made with: %w", x.of.Name, x.name, c.Stride, peft.ErrTensors)
		}
	}
	return nil
}

var (
	_ tuner.Loader   = (*config)(nil)
	_ tuner.Exporter = (*config)(nil)
)
