//go:build amd64 && !noasm

package kernels

import (
	"github.com/peftkit/peftkit/kernels/amd64"
	"github.com/peftkit/peftkit/kernels/generic"
)

// tileSize returns the widths of the packed panels of op(A) and op(B).
func tileSize(lv level) (mr, nr int) {
	switch lv {
	case levelAVX512:
		return 12, 32
	case levelAVX2:
		return 6, 16
	}
	return 4, 4
}

// kernelShape returns the smallest micro-kernel that covers rows x cols.
func kernelShape(lv level, rows, cols int) (int, int) {
	switch lv {
	case levelAVX512:
		return roundUp(rows, 4), roundUp(cols, 16)
	case levelAVX2:
		return roundUp(rows, 2), roundUp(cols, 8)
	}
	return 4, 4
}

// micro runs the kernel of shape rows x cols, which kernelShape returned.
func micro(lv level, rows, cols, k int, a, b, c []float32, ldc int, add bool) {
	_ = c[(rows-1)*ldc+cols-1]
	switch lv {
	case levelAVX512:
		switch rows<<8 | cols {
		case 12<<8 | 32:
			amd64.Gemm12x32AVX512(k, &a[0], &b[0], &c[0], ldc, add)
		case 12<<8 | 16:
			amd64.Gemm12x16AVX512(k, &a[0], &b[0], &c[0], ldc, add)
		case 8<<8 | 32:
			amd64.Gemm8x32AVX512(k, &a[0], &b[0], &c[0], ldc, add)
		case 8<<8 | 16:
			amd64.Gemm8x16AVX512(k, &a[0], &b[0], &c[0], ldc, add)
		case 4<<8 | 32:
			amd64.Gemm4x32AVX512(k, &a[0], &b[0], &c[0], ldc, add)
		case 4<<8 | 16:
			amd64.Gemm4x16AVX512(k, &a[0], &b[0], &c[0], ldc, add)
		}
	case levelAVX2:
		switch rows<<8 | cols {
		case 6<<8 | 16:
			amd64.Gemm6x16AVX2(k, &a[0], &b[0], &c[0], ldc, add)
		case 6<<8 | 8:
			amd64.Gemm6x8AVX2(k, &a[0], &b[0], &c[0], ldc, add)
		case 4<<8 | 16:
			amd64.Gemm4x16AVX2(k, &a[0], &b[0], &c[0], ldc, add)
		case 4<<8 | 8:
			amd64.Gemm4x8AVX2(k, &a[0], &b[0], &c[0], ldc, add)
		case 2<<8 | 16:
			amd64.Gemm2x16AVX2(k, &a[0], &b[0], &c[0], ldc, add)
		case 2<<8 | 8:
			amd64.Gemm2x8AVX2(k, &a[0], &b[0], &c[0], ldc, add)
		}
	default:
		generic.Gemm4x4(k, a, b, c, ldc, add)
	}
}

// transposeStrip does part of packRowsPart: the first strip rows and, of those,
// the first done columns.
func transposeStrip(lv level, dst, src []float32, ld, rows, k, width int, scale float32) (strip, done int) {
	if lv == levelGeneric {
		return rows, 0
	}
	done = k &^ 7
	switch {
	case rows >= 8:
		strip = 8
	case rows >= 4:
		strip = 4
	case rows >= 2:
		strip = 2
	default:
		return rows, 0
	}
	if done == 0 {
		return strip, 0
	}
	_, _ = src[(strip-1)*ld+k-1], dst[(k-1)*width+strip-1]
	switch strip {
	case 8:
		amd64.Transpose8AVX2(done, &src[0], ld, &dst[0], width, scale)
	case 4:
		amd64.Transpose4AVX2(done, &src[0], ld, &dst[0], width, scale)
	case 2:
		amd64.Transpose2AVX2(done, &src[0], ld, &dst[0], width, scale)
	}
	return strip, done
}

// copyStrip does packColumns if there is assembly for the shape.
func copyStrip(lv level, dst, src []float32, ld, k, cols, width int, scale float32) bool {
	if k == 0 || lv == levelGeneric {
		return k == 0
	}
	_, _ = src[(k-1)*ld+cols-1], dst[k*width-1]
	switch {
	case lv == levelAVX512:
		amd64.Copy32AVX512(k, &src[0], ld, &dst[0], width, scale, bits(cols), bits(width))
	case cols == 16 && width == 16:
		amd64.Copy16AVX2(k, &src[0], ld, &dst[0], scale)
	case cols == 6 && width == 6:
		amd64.Copy6AVX2(k, &src[0], ld, &dst[0], scale)
	default:
		return false
	}
	return true
}

// bits returns n ones, n at most 32.
func bits(n int) uint32 { return uint32(1<<n - 1) }
