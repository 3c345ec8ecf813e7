//go:build amd64 && !noasm

package amd64

// The codecs are those of package generic, to the bit. n is rounded down to a
// multiple of 8; blocks have 32 elements.

//go:noescape
func DecodeF16AVX2(n int, dst *float32, src *byte)

//go:noescape
func DecodeBF16AVX2(n int, dst *float32, src *byte)

//go:noescape
func EncodeF16AVX2(n int, dst *byte, src *float32)

//go:noescape
func EncodeBF16AVX2(n int, dst *byte, src *float32)

//go:noescape
func DecodeQ8_0AVX2(blocks int, dst *float32, src *byte)

//go:noescape
func DecodeQ4_0AVX2(blocks int, dst *float32, src *byte)

//go:noescape
func DecodeQ4_1AVX2(blocks int, dst *float32, src *byte)

// The quantisers stop before a block that holds only zeros, an infinity or a
// NaN, or whose scale or minimum is zero, and return the blocks done: the Go
// form treats such a block.

//go:noescape
func EncodeQ8_0AVX2(blocks int, dst *byte, src *float32) int

//go:noescape
func EncodeQ4_0AVX2(blocks int, dst *byte, src *float32) int

//go:noescape
func EncodeQ4_1AVX2(blocks int, dst *byte, src *float32) int
