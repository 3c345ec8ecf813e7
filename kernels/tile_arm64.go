//go:build arm64 && !noasm

package kernels

import (
	"github.com/peftkit/peftkit/kernels/arm64"
	"github.com/peftkit/peftkit/kernels/generic"
)

// tileSize returns the widths of the packed panels of op(A) and op(B).
func tileSize(lv level) (mr, nr int) {
	if lv == levelNEON {
		return 8, 12
	}
	return 4, 4
}

// kernelShape returns the smallest micro-kernel that covers rows x cols.
func kernelShape(lv level, rows, cols int) (int, int) {
	if lv == levelNEON {
		return roundUp(rows, 4), 12
	}
	return 4, 4
}

// micro runs the kernel of shape rows x cols, which kernelShape returned.
func micro(lv level, rows, cols, k int, a, b, c []float32, ldc int, add bool) {
	_ = c[(rows-1)*ldc+cols-1]
	switch {
	case lv == levelNEON && rows == 8:
		arm64.Gemm8x12NEON(k, &a[0], &b[0], &c[0], ldc, add)
	case lv == levelNEON:
		arm64.Gemm4x12NEON(k, &a[0], &b[0], &c[0], ldc, add)
	default:
		generic.Gemm4x4(k, a, b, c, ldc, add)
	}
}

// transposeStrip does part of packRowsPart: the first strip rows and, of those,
// the first done columns.
func transposeStrip(lv level, dst, src []float32, ld, rows, k, width int, scale float32) (strip, done int) {
	if lv == levelGeneric || rows < 4 {
		return rows, 0
	}
	if done = k &^ 3; done == 0 {
		return 4, 0
	}
	_, _ = src[3*ld+k-1], dst[(k-1)*width+3]
	arm64.Transpose4NEON(done, &src[0], ld, &dst[0], width, scale)
	return 4, done
}

// copyStrip does packColumns if there is assembly for the shape.
func copyStrip(lv level, dst, src []float32, ld, k, cols, width int, scale float32) bool {
	if k == 0 || lv == levelGeneric || cols != width || width%4 != 0 {
		return k == 0
	}
	_, _ = src[(k-1)*ld+cols-1], dst[k*width-1]
	for i := 0; i < width; i += 4 {
		arm64.Copy4NEON(k, &src[i], ld, &dst[i], width, scale)
	}
	return true
}
