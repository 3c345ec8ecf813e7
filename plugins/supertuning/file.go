package supertuning

import (
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

func (s *site) indicesName() string { return peft.Prefix + s.Place.Path + ".supertuning_indices" }

// Export implements tuner.Exporter: where in the flattened weight the elements are,
// int32 [n].
func (c *config) Export(a *tuner.Adapter) []formats.OutTensor {
	if !c.Indices {
		return nil
	}
	var out []formats.OutTensor
	for _, x := range a.Sites {
		s := x.(*site)
		at := make([]int32, len(s.Rows))
		for k, r := range s.Rows {
			at[k] = r*int32(s.Place.In) + s.Cols[k]
		}
		out = append(out, tuner.OutIndices(s.indicesName(), tensor.I32, []int{len(at)}, at))
	}
	return out
}

// Loading implements tuner.Loader: it takes the indices, or chooses the elements
// again, by the base's weights.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	for _, x := range a.Sites {
		s := x.(*site)
		switch {
		case !c.Indices:
			if set.Has(s.V.Name) {
				s.choose()
			}
		case set.Has(s.indicesName()):
			at, err := tuner.Indices(set.Take(s.indicesName()), s.V.V.Cols)
			if err != nil {
				return err
			}
			for k, i := range at {
				if i < 0 || int(i) >= s.Place.Out*s.Place.In {
					return fmt.Errorf("%s: element %d is number %d of the weight [%d %d], which has fewer: %w", s.indicesName(), k, i, s.Place.Out, s.Place.In, peft.ErrTensors)
				}
			}
			s.take(at)
		case set.Has(s.V.Name):
			return fmt.Errorf("%s is missing, although save_precomputed_indices is true: %w", s.indicesName(), peft.ErrTensors)
		} // what else is missing is reported with the rest
	}
	return nil
}

// choose chooses the elements as PEFT does.
func (s *site) choose() {
	w := s.Place.Weight()
	s.take(topk(w.Data[:w.Rows*w.Cols], s.V.V.Cols, s.cfg.Top))
}

// take sets the elements by their places in the flattened weight.
func (s *site) take(at []int32) {
	s.Rows, s.Cols = make([]int32, len(at)), make([]int32, len(at))
	in := int32(s.Place.In)
	for k, i := range at {
		s.Rows[k], s.Cols[k] = i/in, i%in
	}
}
