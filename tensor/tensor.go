package tensor

import "github.com/peftkit/peftkit/kernels"

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
	if t.Perm == nil {
		rb := t.RowBytes()
		t.Type.Decode(dst[:(r1-r0)*c], t.Data[r0*rb:r1*rb])
		return nil
	}
	for i := r0; i < r1; i++ {
		t.Type.Decode(dst[(i-r0)*c:(i-r0+1)*c], t.Row(i))
	}
	return nil
}

// AllFloats decodes the whole tensor into a new slice. Use it for small ones.
func (t *Tensor) AllFloats() ([]float32, error) {
	dst := make([]float32, t.Elements())
	return dst, t.Floats(dst, 0, t.Rows())
}

// Weight returns the tensor as the right operand of a matrix product: rows are
// output features, columns input features, decoded while packing.
func (t *Tensor) Weight() (*kernels.Weight, error) {
	if t.Type.Decode == nil {
		return nil, t.noDecoder()
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
