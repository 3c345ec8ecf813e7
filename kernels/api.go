// Package kernels holds the numeric routines that the rest of peftkit is built
// on: the float32 matrix product with packed panels, decoders and encoders of
// the storage types, element-wise routines, and the worker pool.
//
// The tier (generic Go, AVX2, AVX-512, NEON) is chosen from CPUID bits at start
// and can be forced with PEFTKIT_KERNELS. Results never depend on the number of
// threads: no sum is split between workers.
package kernels

// Mat is a row-major float32 matrix view: row i begins at Data[i*Stride].
type Mat struct {
	Data       []float32
	Rows, Cols int
	Stride     int
}

// NewMat allocates a zeroed matrix.
func NewMat(rows, cols int) Mat {
	return Mat{Data: make([]float32, rows*cols), Rows: rows, Cols: cols, Stride: cols}
}

// MatOf views data as rows x cols without copying.
func MatOf(data []float32, rows, cols int) Mat {
	return Mat{Data: data[:rows*cols], Rows: rows, Cols: cols, Stride: cols}
}

// Row returns row i.
func (m Mat) Row(i int) []float32 { return m.Data[i*m.Stride : i*m.Stride+m.Cols] }

// RowsOf returns the view of rows r0 to r1.
func (m Mat) RowsOf(r0, r1 int) Mat {
	return Mat{Data: m.Data[r0*m.Stride:], Rows: r1 - r0, Cols: m.Cols, Stride: m.Stride}
}

// Weight is a frozen matrix [Rows, Cols] in the type it is stored in. It is
// decoded panel by panel while it is packed for a product.
type Weight struct {
	Data       []byte
	Rows, Cols int
	RowBytes   int
	Block      int // elements per block along a row
	BlockBytes int
	// Decode expands whole blocks (see tensor.DType).
	Decode func(dst []float32, src []byte)
	// Float32 says that Data is little-endian float32, so it can be packed without decoding.
	Float32 bool
	// Perm, when not nil: logical row i lies at stored row Perm[i].
	Perm []int32
}
