package formats

import (
	"math"

	"github.com/peftkit/peftkit/tensor"
)

// maxEmptyRows bounds the other dimensions of a tensor without elements, so
// that nobody loops over the rows of nothing.
const maxEmptyRows = 1 << 31

// Elements returns the product of a shape, and false when a dimension is
// negative, the product does not fit into 63 bits, or a shape without elements
// has huge dimensions beside the zero.
func Elements(shape []int) (int64, bool) {
	n, others := int64(1), int64(1)
	for _, x := range shape {
		if x < 0 {
			return 0, false
		}
		if x == 0 {
			n = 0
			continue
		}
		if others > math.MaxInt64/int64(x) {
			return 0, false
		}
		others *= int64(x)
	}
	if n == 0 {
		return 0, others <= maxEmptyRows
	}
	return others, true
}

// CheckedSize returns the bytes of a tensor, and false when the shape has no
// number of elements (see [Elements]), a row is no whole number of blocks, or
// the size overflows.
func CheckedSize(d *tensor.DType, shape []int) (int64, bool) {
	n, ok := Elements(shape)
	if !ok || d.Block > 1 && (len(shape) == 0 || shape[len(shape)-1]%d.Block != 0) {
		return 0, false
	}
	return d.Size(n)
}
