//go:build amd64 && !noasm

package kernels

import (
	"github.com/peftkit/peftkit/kernels/amd64"
	"github.com/peftkit/peftkit/kernels/generic"
)

func decodeF16(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) >= 8 {
		n := min(len(dst)&^7, span)
		amd64.DecodeF16AVX2(n, &dst[0], &src[0])
		dst, src = dst[n:], src[2*n:]
	}
	generic.DecodeF16(dst, src)
}

func decodeBF16(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) >= 8 {
		n := min(len(dst)&^7, span)
		amd64.DecodeBF16AVX2(n, &dst[0], &src[0])
		dst, src = dst[n:], src[2*n:]
	}
	generic.DecodeBF16(dst, src)
}

func encodeF16(dst []byte, src []float32) {
	for active != levelGeneric && len(src) >= 8 {
		n := min(len(src)&^7, span)
		amd64.EncodeF16AVX2(n, &dst[0], &src[0])
		dst, src = dst[2*n:], src[n:]
	}
	generic.EncodeF16(dst, src)
}

func encodeBF16(dst []byte, src []float32) {
	for active != levelGeneric && len(src) >= 8 {
		n := min(len(src)&^7, span)
		amd64.EncodeBF16AVX2(n, &dst[0], &src[0])
		dst, src = dst[2*n:], src[n:]
	}
	generic.EncodeBF16(dst, src)
}

func decodeQ8_0(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) > 0 {
		n := min(len(dst), span)
		amd64.DecodeQ8_0AVX2(n/generic.QK, &dst[0], &src[0])
		dst, src = dst[n:], src[n/generic.QK*generic.BytesQ8_0:]
	}
	generic.DecodeQ8_0(dst, src)
}

func decodeQ4_0(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) > 0 {
		n := min(len(dst), span)
		amd64.DecodeQ4_0AVX2(n/generic.QK, &dst[0], &src[0])
		dst, src = dst[n:], src[n/generic.QK*generic.BytesQ4_0:]
	}
	generic.DecodeQ4_0(dst, src)
}

func decodeQ4_1(dst []float32, src []byte) {
	for active != levelGeneric && len(dst) > 0 {
		n := min(len(dst), span)
		amd64.DecodeQ4_1AVX2(n/generic.QK, &dst[0], &src[0])
		dst, src = dst[n:], src[n/generic.QK*generic.BytesQ4_1:]
	}
	generic.DecodeQ4_1(dst, src)
}

func encodeQ8_0(dst []byte, src []float32) {
	const qk, size = generic.QK, generic.BytesQ8_0
	for active != levelGeneric && len(src) > 0 {
		n := amd64.EncodeQ8_0AVX2(min(len(src), span)/qk, &dst[0], &src[0])
		dst, src = dst[n*size:], src[n*qk:]
		if n < span/qk && len(src) > 0 { // it stopped before a block
			generic.EncodeQ8_0(dst[:size], src[:qk])
			dst, src = dst[size:], src[qk:]
		}
	}
	generic.EncodeQ8_0(dst, src)
}

func encodeQ4_0(dst []byte, src []float32) {
	const qk, size = generic.QK, generic.BytesQ4_0
	for active != levelGeneric && len(src) > 0 {
		n := amd64.EncodeQ4_0AVX2(min(len(src), span)/qk, &dst[0], &src[0])
		dst, src = dst[n*size:], src[n*qk:]
		if n < span/qk && len(src) > 0 {
			generic.EncodeQ4_0(dst[:size], src[:qk])
			dst, src = dst[size:], src[qk:]
		}
	}
	generic.EncodeQ4_0(dst, src)
}

func encodeQ4_1(dst []byte, src []float32) {
	const qk, size = generic.QK, generic.BytesQ4_1
	for active != levelGeneric && len(src) > 0 {
		n := amd64.EncodeQ4_1AVX2(min(len(src), span)/qk, &dst[0], &src[0])
		dst, src = dst[n*size:], src[n*qk:]
		if n < span/qk && len(src) > 0 {
			generic.EncodeQ4_1(dst[:size], src[:qk])
			dst, src = dst[size:], src[qk:]
		}
	}
	generic.EncodeQ4_1(dst, src)
}
