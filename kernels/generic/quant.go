package generic

import (
	"encoding/binary"
	"math"
)

// Blocks of 32 elements in the layouts of ggml (ggml-common.h): the scale is
// binary16; a nibble byte j holds element j (low) and element j+16 (high).
// Every product is rounded to float32 on its own, so that no CPU fuses it into
// an addition: the bytes are those of ggml's reference quantisers.
const (
	QK        = 32 // elements in a block
	BytesQ8_0 = 34 // f16 scale, 32 int8
	BytesQ4_0 = 18 // f16 scale, 16 bytes of nibbles
	BytesQ4_1 = 20 // f16 scale, f16 minimum, 16 bytes of nibbles
)

// DecodeQ8_0 does dst[i] = scale * q.
func DecodeQ8_0(dst []float32, src []byte) {
	for b := 0; b < len(dst)/QK; b++ {
		x := src[b*BytesQ8_0 : (b+1)*BytesQ8_0]
		y := dst[b*QK : (b+1)*QK]
		d := F16ToF32(binary.LittleEndian.Uint16(x))
		for j := range y {
			y[j] = float32(int8(x[2+j])) * d
		}
	}
}

// DecodeQ4_0 does dst[i] = scale * (q - 8).
func DecodeQ4_0(dst []float32, src []byte) {
	for b := 0; b < len(dst)/QK; b++ {
		x := src[b*BytesQ4_0 : (b+1)*BytesQ4_0]
		y := dst[b*QK : (b+1)*QK]
		d := F16ToF32(binary.LittleEndian.Uint16(x))
		for j, q := range x[2:] {
			y[j] = float32(int(q&15)-8) * d
			y[j+16] = float32(int(q>>4)-8) * d
		}
	}
}

// DecodeQ4_1 does dst[i] = scale*q + minimum.
func DecodeQ4_1(dst []float32, src []byte) {
	for b := 0; b < len(dst)/QK; b++ {
		x := src[b*BytesQ4_1 : (b+1)*BytesQ4_1]
		y := dst[b*QK : (b+1)*QK]
		d := F16ToF32(binary.LittleEndian.Uint16(x))
		m := F16ToF32(binary.LittleEndian.Uint16(x[2:]))
		for j, q := range x[4:] {
			y[j] = float32(float32(q&15)*d) + m
			y[j+16] = float32(float32(q>>4)*d) + m
		}
	}
}

// EncodeQ8_0 stores scale = max|x|/127 and q = round(x/scale), halves away from
// zero.
func EncodeQ8_0(dst []byte, src []float32) {
	for b := 0; b < len(src)/QK; b++ {
		x := src[b*QK : (b+1)*QK]
		y := dst[b*BytesQ8_0 : (b+1)*BytesQ8_0]
		var amax float32
		for _, v := range x {
			if a := abs(v); a > amax {
				amax = a
			}
		}
		d := amax / 127
		id := inverse(d)
		binary.LittleEndian.PutUint16(y, F32ToF16(d))
		for j, v := range x {
			y[2+j] = byte(roundAway(float32(v * id)))
		}
	}
}

// EncodeQ4_0 stores scale = m/-8, where m is the first element of largest
// magnitude, and q = min(15, trunc(x/scale + 8.5)).
func EncodeQ4_0(dst []byte, src []float32) {
	for b := 0; b < len(src)/QK; b++ {
		x := src[b*QK : (b+1)*QK]
		y := dst[b*BytesQ4_0 : (b+1)*BytesQ4_0]
		var amax, m float32
		for _, v := range x {
			if a := abs(v); a > amax {
				amax, m = a, v
			}
		}
		d := m / -8
		id := inverse(d)
		binary.LittleEndian.PutUint16(y, F32ToF16(d))
		for j := range y[2:] {
			q0 := nibble(float32(x[j]*id) + 8.5)
			q1 := nibble(float32(x[j+16]*id) + 8.5)
			y[2+j] = q0 | q1<<4
		}
	}
}

// EncodeQ4_1 stores scale = (max-min)/15, the minimum, and
// q = min(15, trunc((x-min)/scale + 0.5)).
func EncodeQ4_1(dst []byte, src []float32) {
	for b := 0; b < len(src)/QK; b++ {
		x := src[b*QK : (b+1)*QK]
		y := dst[b*BytesQ4_1 : (b+1)*BytesQ4_1]
		lo, hi := float32(math.MaxFloat32), float32(-math.MaxFloat32)
		for _, v := range x {
			if v < lo {
				lo = v
			}
			if v > hi {
				hi = v
			}
		}
		d := (hi - lo) / 15
		id := inverse(d)
		binary.LittleEndian.PutUint16(y, F32ToF16(d))
		binary.LittleEndian.PutUint16(y[2:], F32ToF16(lo))
		for j := range y[4:] {
			q0 := nibble(float32((x[j]-lo)*id) + 0.5)
			q1 := nibble(float32((x[j+16]-lo)*id) + 0.5)
			y[4+j] = q0 | q1<<4
		}
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// toInt32 is the conversion that the x86 instruction does: out of range and NaN
// give the smallest int32. ggml's results for such input follow from it.
func toInt32(x float32) int32 {
	if x >= -0x1p31 && x < 0x1p31 {
		return int32(x)
	}
	return math.MinInt32
}

// nibble is min(15, int8(x)) in the low four bits of a byte.
func nibble(x float32) byte {
	q := int8(toInt32(x))
	if q > 15 {
		q = 15
	}
	return byte(q)
}

// roundAway is C's roundf followed by the conversion to int8.
func roundAway(x float32) int8 {
	t := float32(math.Trunc(float64(x)))
	if d := abs(x - t); d >= 0.5 {
		if x < 0 {
			t--
		} else {
			t++
		}
	}
	return int8(toInt32(t))
}
