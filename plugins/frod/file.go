package frod

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

const shared = "base_model."

func (k *category) indicesName() string { return shared + "frod_s_indices." + k.name }
func (k *category) sizeName() string    { return shared + "frod_s_size." + k.name }

// Export implements tuner.Exporter: rows and columns of the trained elements and the
// size of their matrix, in int64.
func (c *config) Export(*tuner.Adapter) []formats.OutTensor {
	var out []formats.OutTensor
	for _, k := range c.categories {
		size := int32(k.in)
		out = append(out, tuner.OutIndices(k.indicesName(), tensor.I64, []int{2, k.count}, k.rows, k.cols), tuner.OutIndices(k.sizeName(), tensor.I64, []int{2}, []int32{size, size}))
	}
	return out
}

// Loading implements tuner.Loader: it takes the choice of elements, and finds U by the
// file's V.
func (c *config) Loading(_ *tuner.Adapter, set *peft.TensorSet) error {
	for _, k := range c.categories {
		t := set.Peek(k.v.Name)
		if t == nil {
			if !c.any(set) {
				return nil // a file for another model, which is reported with the rest
			}
			return fmt.Errorf("%s, the basis of its weights, is missing: save the adapter with save_projection true where it was made: %w", k.v.Name, peft.ErrTensors)
		}
		if !slices.Equal(t.Shape, k.v.Shape) {
			return fmt.Errorf("%s has shape %v, the model wants %v: %w", t.Name, t.Shape, k.v.Shape, peft.ErrTensors)
		}
		v, err := t.AllFloats()
		if err != nil {
			return err
		}
		for i, x := range v {
			if x-x != 0 {
				return fmt.Errorf("%s: element [%d,%d] is %g, expected a finite number: the file is broken: %w", t.Name, i/k.in, i%k.in, x, peft.ErrTensors)
			}
		}
		copy(k.v.V.Data, v)
		if err := k.read(set); err != nil {
			return err
		}
	}
	return c.fit()
}

// any reports whether the file has something for a module.
func (c *config) any(set *peft.TensorSet) bool {
	return slices.ContainsFunc(c.sites, func(s *site) bool { return set.Has(s.l.Name) || set.Has(s.s.Name) })
}

// read takes the choice of elements of a category.
func (k *category) read(set *peft.TensorSet) error {
	for _, name := range []string{k.indicesName(), k.sizeName()} {
		if !set.Has(name) {
			return fmt.Errorf("%s is missing: %w", name, peft.ErrTensors)
		}
	}
	size, err := tuner.Indices(set.Take(k.sizeName()), 2)
	if err != nil {
		return err
	}
	if int(size[0]) != k.in || int(size[1]) != k.in {
		return fmt.Errorf("%s is %v, expected [%d %d], the inputs of the modules: %w", k.sizeName(), size, k.in, k.in, peft.ErrTensors)
	}
	list, err := tuner.Indices(set.Take(k.indicesName()), 2, k.count)
	if err != nil {
		return err
	}
	k.rows, k.cols = list[:k.count], list[k.count:]
	for i := range k.count {
		if r, c := k.rows[i], k.cols[i]; r < 0 || int(r) >= k.in || c < 0 || int(c) >= k.in {
			return fmt.Errorf("%s: element %d is (%d, %d), outside of a matrix [%d %d]: %w", k.indicesName(), i, r, c, k.in, k.in, peft.ErrTensors)
		}
	}
	return nil
}
