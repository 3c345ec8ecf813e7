package tensor

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// Tensor is one stored tensor: a name, a type, a row-major shape and its bytes,
// which usually lie in a mapped file and must not be written.
type Tensor struct {
	Name  string
	Type  *DType
	Shape []int
	// Data holds the elements, row after row. Treat it as read-only.
	Data []byte
	// Perm, when not nil, says that logical row i lies at stored row Perm[i].
	// llama.cpp stores the query and key rows of the Llama family in another
	// order than Hugging Face; with Perm both are the same logical tensor and
	// nothing is copied.
	Perm []int32
	// Transposed says that Data holds the transpose of a matrix: element (i, j) of
	// Shape lies in column i of stored row j. GPT-2's weights are [in, out] to
	// Hugging Face and [out, in] in GGUF files. Methods that return stored rows
	// (Row, RowBytes) do not apply; see Stored.
	Transposed bool
	// Shift is added to every decoded value: GGUF files hold Gemma's norm weights
	// one larger than Hugging Face does.
	Shift float32
	// File and Offset say where Data begins, for error messages.
	File   string
	Offset int64
}

// Elements returns the number of elements.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// Cols returns the length of a row (the innermost dimension; 1 for a scalar).
func (t *Tensor) Cols() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows returns the number of rows: the product of all dimensions but the last.
func (t *Tensor) Rows() int {
	n := 1
	for _, d := range t.Shape[:max(0, len(t.Shape)-1)] {
		n *= d
	}
	return n
}

// RowBytes returns the size of one stored row.
func (t *Tensor) RowBytes() int { return t.Cols() / t.Type.Block * t.Type.Bytes }

// Row returns the stored bytes of logical row i.
func (t *Tensor) Row(i int) []byte {
	if t.Perm != nil {
		i = int(t.Perm[i])
	}
	rb := t.RowBytes()
	return t.Data[i*rb : (i+1)*rb]
}

// Floats decodes logical rows r0 to r1 into dst, which holds (r1-r0)*Cols values.
func (t *Tensor) Floats(dst []float32, r0, r1 int) error {
	if t.Type.Decode == nil {
		return t.noDecoder()
	}
	c := t.Cols()
	switch {
	case t.Transposed:
		return t.columns(dst, r0, r1)
	case t.Perm == nil:
		rb := t.RowBytes()
		t.Type.Decode(dst[:(r1-r0)*c], t.Data[r0*rb:r1*rb])
	default:
		for i := r0; i < r1; i++ {
			t.Type.Decode(dst[(i-r0)*c:(i-r0+1)*c], t.Row(i))
		}
	}
	if t.Shift != 0 {
		for i := range dst[:(r1-r0)*c] {
			dst[i] += t.Shift
		}
	}
	return nil
}

// Stored returns the tensor as the file holds it: the same bytes with the shape
// of the stored matrix, without Transposed and Shift.
func (t *Tensor) Stored() *Tensor {
	s := *t
	if t.Transposed {
		s.Shape = []int{t.Shape[1], t.Shape[0]}
	}
	s.Transposed, s.Shift = false, 0
	return &s
}

// columns decodes logical rows r0 to r1 of a transposed matrix. Every stored row
// is decoded for it, so ask for many rows at once.
func (t *Tensor) columns(dst []float32, r0, r1 int) error {
	s := t.Stored()
	s.Shift = t.Shift
	n, c := s.Cols(), t.Cols()
	row := make([]float32, n)
	for j := range c {
		if err := s.Floats(row, j, j+1); err != nil {
			return err
		}
		for i := r0; i < r1; i++ {
			dst[(i-r0)*c+j] = row[i]
		}
	}
	return nil
}

// AllFloats decodes the whole tensor into a new slice. Use it for small ones.
func (t *Tensor) AllFloats() ([]float32, error) {
	dst := make([]float32, t.Elements())
	return dst, t.Floats(dst, 0, t.Rows())
}

// Weight returns the tensor as the right operand of a matrix product: rows are
// output features, columns input features, decoded while packing. The stored
// values are meant: a tensor with Transposed or Shift has no such form.
func (t *Tensor) Weight() (*kernels.Weight, error) {
	if t.Type.Decode == nil {
		return nil, t.noDecoder()
	}
	if t.Transposed || t.Shift != 0 {
		return nil, fmt.Errorf("tensor %s: its stored values are no weight as they are", t.Name)
	}
	return &kernels.Weight{
		Data: t.Data, Rows: t.Rows(), Cols: t.Cols(), RowBytes: t.RowBytes(),
		Block: t.Type.Block, BlockBytes: t.Type.Bytes, Decode: t.Type.Decode,
		Float32: t.Type == F32, Perm: t.Perm,
	}, nil
}

// FromFloats builds an F32 tensor whose bytes are a copy of v.
func FromFloats(name string, shape []int, v []float32) *Tensor {
	b := make([]byte, 4*len(v))
	F32.Encode(b, v)
	return &Tensor{Name: name, Type: F32, Shape: shape, Data: b}
}
