package trainabletokens

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// copies calls f with the name of the copy of the rows that PEFT saves for each
// module that is tied to a target.
func copies(a *tuner.Adapter, f func(copied string, of *nn.Param) error) error {
	for i, s := range a.Sites {
		t, ok := s.(*tuner.Tokens)
		if !ok {
			continue
		}
		var paths []string
		if p := a.Places[i]; p.Path != p.Mod.Path { // the shared embedding
			paths = append(paths, p.Mod.Path)
		}
		for _, m := range t.Tied {
			paths = append(paths, m.Path)
		}
		for _, path := range paths {
			if err := f(peft.Prefix+path+"."+name, t.Delta); err != nil {
				return err
			}
		}
	}
	return nil
}

// Export implements tuner.Exporter.
func (c *config) Export(a *tuner.Adapter) (out []formats.OutTensor) {
	copies(a, func(copied string, of *nn.Param) error {
		p := *of
		p.Name = copied
		out = append(out, peft.OutParam(&p))
		return nil
	})
	return out
}

// Loading implements tuner.Loader: copies must be what they are copies of.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	if err := tuner.CheckTokens("token_indices", c.Tokens); err != nil {
		return err
	}
	return copies(a, func(copied string, of *nn.Param) error {
		rows := set.Peek(of.Name)
		if rows == nil {
			return nil // reported with the rest that is missing
		}
		if !set.Has(copied) {
			return fmt.Errorf("%s is missing, the copy of %s for the module that is tied to it: %w", copied, rows.Name, peft.ErrTensors)
		}
		t := set.Take(copied)
		if !slices.Equal(t.Shape, rows.Shape) {
			return fmt.Errorf("%s has shape %v, %s, of which it is a copy, %v: %w", t.Name, t.Shape, rows.Name, rows.Shape, peft.ErrTensors)
		}
		x, err := t.AllFloats()
		if err != nil {
			return err
		}
		y, err := rows.AllFloats()
		if err != nil {
			return err
		}
		if !slices.Equal(x, y) {
			return fmt.Errorf("%s and %s differ, although the model ties their modules to one weight: %w", t.Name, rows.Name, peft.ErrTensors)
		}
		return nil
	})
}
