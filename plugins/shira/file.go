package shira

import (
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

func (s *site) indicesName() string { return peft.Prefix + s.Place.Path + ".shira_indices" }

// Export implements tuner.Exporter: rows and columns of the elements, int32 [2, n].
func (c *config) Export(a *tuner.Adapter) []formats.OutTensor {
	var out []formats.OutTensor
	for _, x := range a.Sites {
		s := x.(*site)
		out = append(out, tuner.OutIndices(s.indicesName(), tensor.I32, []int{2, len(s.Rows)}, s.Rows, s.Cols))
	}
	return out
}

// Loading implements tuner.Loader: it takes the indices.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	for _, x := range a.Sites {
		s := x.(*site)
		if !set.Has(s.indicesName()) {
			if set.Has(s.V.Name) {
				return fmt.Errorf("%s is missing: %w", s.indicesName(), peft.ErrTensors)
			}
			continue // what is missing is reported with the rest
		}
		if err := s.read(set.Take(s.indicesName())); err != nil {
			return err
		}
	}
	return nil
}

// read reads indices.
func (s *site) read(t *tensor.Tensor) error {
	n := s.V.V.Cols
	list, err := tuner.Indices(t, 2, n)
	if err != nil {
		return err
	}
	s.Rows, s.Cols = list[:n], list[n:]
	for k := range n {
		if r, c := s.Rows[k], s.Cols[k]; r < 0 || int(r) >= s.Place.Out || c < 0 || int(c) >= s.Place.In {
			return fmt.Errorf("%s: element %d is (%d, %d), outside of the weight [%d %d]: %w", t.Name, k, r, c, s.Place.Out, s.Place.In, peft.ErrTensors)
		}
	}
	return nil
}
