package kernels

import (
	"unsafe"

	"github.com/peftkit/peftkit/kernels/generic"
)

// Decoders write len(dst) elements, a multiple of the block, from src; encoders
// read len(src) elements. The byte slice must hold all blocks: a shorter one
// panics. All results are exact to the bit on every tier; the quantisers give
// the bytes of ggml's reference (quantize_row_*_ref in ggml-quants.c), with
// every product rounded to float32 before it is added to.

// blockBytes checks the length and returns the bytes of n elements.
func blockBytes(n, block, bytes int) int {
	if n%block != 0 {
		panic("kernels: length is not a multiple of the quantisation block")
	}
	return n / block * bytes
}

// DecodeF32 reads little-endian float32.
func DecodeF32(dst []float32, src []byte) {
	src = src[:4*len(dst)]
	if littleEndian {
		copy(float32Bytes(dst), src)
		return
	}
	generic.DecodeF32(dst, src)
}

// EncodeF32 writes little-endian float32.
func EncodeF32(dst []byte, src []float32) {
	dst = dst[:4*len(src)]
	if littleEndian {
		copy(dst, float32Bytes(src))
		return
	}
	generic.EncodeF32(dst, src)
}

// float32Bytes views the memory of x.
func float32Bytes(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// F32FromBytes reads little-endian float32; it is DecodeF32 under the name that
// says it for raw files.
func F32FromBytes(dst []float32, src []byte) { DecodeF32(dst, src) }

// DecodeF16 reads little-endian binary16.
func DecodeF16(dst []float32, src []byte) { decodeF16(dst, src[:2*len(dst)]) }

// EncodeF16 writes binary16, rounded to nearest even; NaN becomes sign|0x7e00.
func EncodeF16(dst []byte, src []float32) { encodeF16(dst[:2*len(src)], src) }

// DecodeBF16 reads little-endian bfloat16.
func DecodeBF16(dst []float32, src []byte) { decodeBF16(dst, src[:2*len(dst)]) }

// EncodeBF16 writes bfloat16, rounded to nearest even; NaN stays a quiet NaN.
func EncodeBF16(dst []byte, src []float32) { encodeBF16(dst[:2*len(src)], src) }

// DecodeQ8_0 reads blocks of 32: f16 scale, 32 int8.
func DecodeQ8_0(dst []float32, src []byte) {
	decodeQ8_0(dst, src[:blockBytes(len(dst), generic.QK, generic.BytesQ8_0)])
}

// EncodeQ8_0 writes blocks of 32 with scale max|x|/127.
func EncodeQ8_0(dst []byte, src []float32) {
	encodeQ8_0(dst[:blockBytes(len(src), generic.QK, generic.BytesQ8_0)], src)
}

// DecodeQ4_0 reads blocks of 32: f16 scale, 16 bytes of nibbles minus 8.
func DecodeQ4_0(dst []float32, src []byte) {
	decodeQ4_0(dst, src[:blockBytes(len(dst), generic.QK, generic.BytesQ4_0)])
}

// EncodeQ4_0 writes blocks of 32 with scale max/-8.
func EncodeQ4_0(dst []byte, src []float32) {
	encodeQ4_0(dst[:blockBytes(len(src), generic.QK, generic.BytesQ4_0)], src)
}

// DecodeQ4_1 reads blocks of 32: f16 scale and minimum, 16 bytes of nibbles.
func DecodeQ4_1(dst []float32, src []byte) {
	decodeQ4_1(dst, src[:blockBytes(len(dst), generic.QK, generic.BytesQ4_1)])
}

// EncodeQ4_1 writes blocks of 32 with scale (max-min)/15 and the minimum.
func EncodeQ4_1(dst []byte, src []float32) {
	encodeQ4_1(dst[:blockBytes(len(src), generic.QK, generic.BytesQ4_1)], src)
}
