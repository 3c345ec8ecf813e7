//go:build amd64 && !noasm

package amd64

// The micro-kernels compute, for their number of rows and columns,
//
//	for i := range rows {
//		for j := range cols {
//			var s float32
//			for p := range k {
//				s = fma(a[p*MR+i], b[p*NR+j], s)
//			}
//			if add { s += c[i*ldc+j] }
//			c[i*ldc+j] = s
//		}
//	}
//
// where a and b are packed panels, always MR and NR wide: 12 and 32 for
// AVX-512, 6 and 16 for AVX2.

//go:noescape
func Gemm12x32AVX512(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm12x16AVX512(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm8x32AVX512(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm8x16AVX512(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm4x32AVX512(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm4x16AVX512(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm6x16AVX2(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm6x8AVX2(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm4x16AVX2(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm4x8AVX2(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm2x16AVX2(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm2x8AVX2(k int, a, b, c *float32, ldc int, add bool)

// The transposes do, for R rows (8, 4 or 2) and k rounded down to a multiple of 8,
//
//	for p := range k {
//		for i := range R {
//			dst[p*width+i] = scale * src[i*ld+p]
//		}
//	}

//go:noescape
func Transpose8AVX2(k int, src *float32, ld int, dst *float32, width int, scale float32)

//go:noescape
func Transpose4AVX2(k int, src *float32, ld int, dst *float32, width int, scale float32)

//go:noescape
func Transpose2AVX2(k int, src *float32, ld int, dst *float32, width int, scale float32)

// Copy16AVX2 does, for p < k and i < 16, dst[p*16+i] = scale*src[p*ld+i].
//
//go:noescape
func Copy16AVX2(k int, src *float32, ld int, dst *float32, scale float32)

// Copy6AVX2 does, for p < k and i < 6, dst[p*6+i] = scale*src[p*ld+i].
//
//go:noescape
func Copy6AVX2(k int, src *float32, ld int, dst *float32, scale float32)

// Copy32AVX512 does, for p < k and i < 32, where bit i of store is set:
// dst[p*width+i] = scale*src[p*ld+i] if bit i of load is set, else 0.
//
//go:noescape
func Copy32AVX512(k int, src *float32, ld int, dst *float32, width int, scale float32, load, store uint32)

// Pause waits for about n*40 nanoseconds without using the shared units of the core.
func Pause(n int)
