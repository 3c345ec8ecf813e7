package kernels

import "fmt"

// Transpose writes the transpose of src, [m,n], to dst, [n,m], on the calling
// goroutine. They must not overlap; sizes that do not fit are a mistake of the caller
// and panic.
func Transpose(dst, src Mat) {
	checkMat("dst", dst)
	checkMat("src", src)
	if dst.Rows != src.Cols || dst.Cols != src.Rows {
		panic(fmt.Sprintf("kernels: Transpose of [%d,%d] to [%d,%d]", src.Rows, src.Cols, dst.Rows, dst.Cols))
	}
	const tile = 32 // its lines on both sides stay in the L1 cache
	for c := 0; c < src.Cols; c += tile {
		for r := 0; r < src.Rows; r += tile {
			packRowsPart(active, dst.Data[c*dst.Stride+r:], src.Data[r*src.Stride+c:], src.Stride,
				min(tile, src.Rows-r), min(tile, src.Cols-c), dst.Stride, 1)
		}
	}
}
