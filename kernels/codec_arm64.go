//go:build arm64 && !noasm

package kernels

import (
	"github.com/peftkit/peftkit/kernels/arm64"
	"github.com/peftkit/peftkit/kernels/generic"
)

func decodeF16(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) >= 8 {
		n := min(len(dst)&^7, span)
		arm64.DecodeF16NEON(n, &dst[0], &src[0])
		dst, src = dst[n:], src[2*n:]
	}
	generic.DecodeF16(dst, src)
}

func decodeBF16(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) >= 8 {
		n := min(len(dst)&^7, span)
		arm64.DecodeBF16NEON(n, &dst[0], &src[0])
		dst, src = dst[n:], src[2*n:]
	}
	generic.DecodeBF16(dst, src)
}

func decodeQ8_0(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) > 0 {
		n := min(len(dst), span)
		arm64.DecodeQ8_0NEON(n/generic.QK, &dst[0], &src[0])
		dst, src = dst[n:], src[n/generic.QK*generic.BytesQ8_0:]
	}
	generic.DecodeQ8_0(dst, src)
}

func decodeQ4_0(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) > 0 {
		n := min(len(dst), span)
		arm64.DecodeQ4_0NEON(n/generic.QK, &dst[0], &src[0])
		dst, src = dst[n:], src[n/generic.QK*generic.BytesQ4_0:]
	}
	generic.DecodeQ4_0(dst, src)
}

func decodeQ4_1(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) > 0 {
		n := min(len(dst), span)
		arm64.DecodeQ4_1NEON(n/generic.QK, &dst[0], &src[0])
		dst, src = dst[n:], src[n/generic.QK*generic.BytesQ4_1:]
	}
	generic.DecodeQ4_1(dst, src)
}

// The encoders are the Go form on every tier.

func encodeF16(dst []byte, src []float32)  { generic.EncodeF16(dst, src) }
func encodeBF16(dst []byte, src []float32) { generic.EncodeBF16(dst, src) }
func encodeQ8_0(dst []byte, src []float32) { generic.EncodeQ8_0(dst, src) }
func encodeQ4_0(dst []byte, src []float32) { generic.EncodeQ4_0(dst, src) }
func encodeQ4_1(dst []byte, src []float32) { generic.EncodeQ4_1(dst, src) }
