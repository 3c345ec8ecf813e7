package shira

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

func (s *site) indicesName() string { return peft.Prefix + s.place.Path + ".shira_indices" }

// Export implements tuner.Exporter: rows and columns of the elements, int32 [2, n].
func (c *config) Export(a *tuner.Adapter) []formats.OutTensor {
	var out []formats.OutTensor
	for _, x := range a.Sites {
		s := x.(*site)
		out = append(out, formats.OutTensor{Name: s.indicesName(), Type: tensor.I32, Shape: []int{2, len(s.rows)}, WriteTo: func(w io.Writer) error {
			for _, list := range [][]int32{s.rows, s.cols} {
				b := make([]byte, 0, 4*len(list))
				for _, v := range list {
					b = binary.LittleEndian.AppendUint32(b, uint32(v))
				}
				if _, err := w.Write(b); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	return out
}

// Loading implements tuner.Loader: it takes the indices.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	for _, x := range a.Sites {
		s := x.(*site)
		if !set.Has(s.indicesName()) {
			if set.Has(s.v.Name) {
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

// read reads indices. PEFT on Windows writes them as float32.
func (s *site) read(t *tensor.Tensor) error {
	n := s.v.V.Cols
	if !slices.Equal(t.Shape, []int{2, n}) {
		return fmt.Errorf("%s has shape %v, the model and the configuration want [2 %d]: %w", t.Name, t.Shape, n, peft.ErrTensors)
	}
	list := make([]int32, 2*n)
	switch {
	case t.Type == tensor.I32:
		for i := range list {
			list[i] = int32(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case t.Type == tensor.I64:
		for i := range list {
			list[i] = int32(min(max(int64(binary.LittleEndian.Uint64(t.Data[8*i:])), -1), 1<<31-1))
		}
	case t.Type.Decode != nil:
		v, err := t.AllFloats()
		if err != nil {
			return err
		}
		for i, x := range v {
			if !(x >= 0 && x < 1<<24) {
				x = -1
			}
			list[i] = int32(x)
		}
	default:
		return fmt.Errorf("%s is of type %s, expected I32: %w", t.Name, t.Type, peft.ErrTensors)
	}
	s.rows, s.cols = list[:n], list[n:]
	for k := range n {
		if r, c := s.rows[k], s.cols[k]; r < 0 || int(r) >= s.place.Out || c < 0 || int(c) >= s.place.In {
			return fmt.Errorf("%s: element %d is (%d, %d), outside of the weight [%d %d]: %w", t.Name, k, r, c, s.place.Out, s.place.In, peft.ErrTensors)
		}
	}
	return nil
}
