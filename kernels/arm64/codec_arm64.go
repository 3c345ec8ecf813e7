//go:build arm64 && !noasm

package arm64

// The decoders are those of package generic, to the bit. n is rounded down to a
// multiple of 8; blocks have 32 elements.

//go:noescape
func DecodeF16NEON(n int, dst *float32, src *byte)

//go:noescape
func DecodeBF16NEON(n int, dst *float32, src *byte)

//go:noescape
func DecodeQ8_0NEON(blocks int, dst *float32, src *byte)

//go:noescape
func DecodeQ4_0NEON(blocks int, dst *float32, src *byte)

//go:noescape
func DecodeQ4_1NEON(blocks int, dst *float32, src *byte)
