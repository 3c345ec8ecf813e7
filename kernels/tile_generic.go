//go:build noasm || !(amd64 || arm64)

package kernels

import "github.com/peftkit/peftkit/kernels/generic"

func tileSize(level) (mr, nr int) { return 4, 4 }

func kernelShape(_ level, rows, cols int) (int, int) { return 4, 4 }

func micro(_ level, rows, cols, k int, a, b, c []float32, ldc int, add bool) {
	generic.Gemm4x4(k, a, b, c, ldc, add)
}

func transposeStrip(_ level, dst, src []float32, ld, rows, k, width int, scale float32) (strip, done int) {
	return rows, 0
}

func copyStrip(_ level, dst, src []float32, ld, k, cols, width int, scale float32) bool { return false }
