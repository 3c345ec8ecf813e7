package tuner

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// OutIndices is a tensor of whole numbers, I32 or I64, made of lists end to end.
func OutIndices(name string, typ *tensor.DType, shape []int, lists ...[]int32) formats.OutTensor {
	return formats.OutTensor{Name: name, Type: typ, Shape: shape, WriteTo: func(w io.Writer) error {
		for _, list := range lists {
			b := make([]byte, 0, 8*len(list))
			for _, v := range list {
				if typ == tensor.I64 {
					b = binary.LittleEndian.AppendUint64(b, uint64(v))
				} else {
					b = binary.LittleEndian.AppendUint32(b, uint32(v))
				}
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}}
}

// Indices reads a tensor of whole numbers of the given shape; PEFT on Windows writes
// them as float32. What is no int32 from 0 on comes back as -1.
func Indices(t *tensor.Tensor, shape ...int) ([]int32, error) {
	if !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("%s has shape %v, the model and the configuration want %v: %w", t.Name, t.Shape, shape, peft.ErrTensors)
	}
	n := 1
	for _, d := range shape {
		n *= d
	}
	list := make([]int32, n)
	switch {
	case t.Type == tensor.I32:
		for i := range list {
			list[i] = int32(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case t.Type == tensor.I64:
		for i := range list {
			list[i] = whole(int64(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
	case t.Type.Decode != nil:
		v, err := t.AllFloats()
		if err != nil {
			return nil, err
		}
		for i, x := range v {
			if list[i] = -1; x >= 0 && x < 1<<24 {
				list[i] = int32(x)
			}
		}
	default:
		return nil, fmt.Errorf("%s is of type %s, expected I32: %w", t.Name, t.Type, peft.ErrTensors)
	}
	return list, nil
}

func whole(x int64) int32 {
	if x < 0 || x > 1<<31-1 {
		return -1
	}
	return int32(x)
}
