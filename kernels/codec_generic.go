//go:build noasm || !(amd64 || arm64)

package kernels

import "github.com/peftkit/peftkit/kernels/generic"

func decodeF16(dst []float32, src []byte)  { generic.DecodeF16(dst, src) }
func encodeF16(dst []byte, src []float32)  { generic.EncodeF16(dst, src) }
func decodeBF16(dst []float32, src []byte) { generic.DecodeBF16(dst, src) }
func encodeBF16(dst []byte, src []float32) { generic.EncodeBF16(dst, src) }
func decodeQ8_0(dst []float32, src []byte) { generic.DecodeQ8_0(dst, src) }
func encodeQ8_0(dst []byte, src []float32) { generic.EncodeQ8_0(dst, src) }
func decodeQ4_0(dst []float32, src []byte) { generic.DecodeQ4_0(dst, src) }
func decodeQ4_1(dst []float32, src []byte) { generic.DecodeQ4_1(dst, src) }
func encodeQ4_0(dst []byte, src []float32) { generic.EncodeQ4_0(dst, src) }
func encodeQ4_1(dst []byte, src []float32) { generic.EncodeQ4_1(dst, src) }
