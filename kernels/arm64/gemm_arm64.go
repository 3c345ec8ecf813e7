//go:build arm64 && !noasm

package arm64

// The micro-kernels compute, for their number of rows and 12 columns,
//
//	for i := range rows {
//		for j := range 12 {
//			var s float32
//			for p := range k {
//				s = fma(a[p*8+i], b[p*12+j], s)
//			}
//			if add { s += c[i*ldc+j] }
//			c[i*ldc+j] = s
//		}
//	}
//
// where a and b are packed panels, 8 and 12 wide.

//go:noescape
func Gemm8x12NEON(k int, a, b, c *float32, ldc int, add bool)

//go:noescape
func Gemm4x12NEON(k int, a, b, c *float32, ldc int, add bool)

// Transpose4NEON does, for k rounded down to a multiple of 4,
//
//	for p := range k {
//		for i := range 4 {
//			dst[p*width+i] = scale * src[i*ld+p]
//		}
//	}
//
//go:noescape
func Transpose4NEON(k int, src *float32, ld int, dst *float32, width int, scale float32)

// Copy4NEON does, for p < k and i < 4, dst[p*width+i] = scale*src[p*ld+i].
//
//go:noescape
func Copy4NEON(k int, src *float32, ld int, dst *float32, width int, scale float32)

// Pause yields to the other threads of the core n times.
func Pause(n int)
