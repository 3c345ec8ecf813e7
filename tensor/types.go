package tensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/peftkit/peftkit/kernels"
)

// Floating-point types. Decoding F64 rounds to the nearest float32.
var (
	F32  = Register(&DType{Name: "F32", Block: 1, Bytes: 4, GGUF: 0, SafeTensors: "F32", FileType: 0, Decode: kernels.DecodeF32, Encode: kernels.EncodeF32})
	F16  = Register(&DType{Name: "F16", Block: 1, Bytes: 2, GGUF: 1, SafeTensors: "F16", FileType: 1, Decode: kernels.DecodeF16, Encode: kernels.EncodeF16})
	BF16 = Register(&DType{Name: "BF16", Block: 1, Bytes: 2, GGUF: 30, SafeTensors: "BF16", FileType: 32, Decode: kernels.DecodeBF16, Encode: kernels.EncodeBF16})
	F64  = Register(&DType{Name: "F64", Block: 1, Bytes: 8, GGUF: 28, SafeTensors: "F64", FileType: -1, Decode: decodeF64, Encode: encodeF64})
)

// Block-quantised types of ggml: 32 elements share a scale (Q4_0, Q8_0) or a
// scale and a minimum (Q4_1), stored as float16 before the codes.
var (
	Q4_0 = Register(&DType{Name: "Q4_0", Block: 32, Bytes: 18, GGUF: 2, FileType: 2, Decode: kernels.DecodeQ4_0, Encode: kernels.EncodeQ4_0})
	Q4_1 = Register(&DType{Name: "Q4_1", Block: 32, Bytes: 20, GGUF: 3, FileType: 3, Decode: kernels.DecodeQ4_1, Encode: kernels.EncodeQ4_1})
	Q8_0 = Register(&DType{Name: "Q8_0", Block: 32, Bytes: 34, GGUF: 8, FileType: 7, Decode: kernels.DecodeQ8_0, Encode: kernels.EncodeQ8_0})
)

// Integer and boolean types. They are carried as bytes and hold no weights, so
// they have no decoder.
var (
	I8   = Register(&DType{Name: "I8", Block: 1, Bytes: 1, GGUF: 24, SafeTensors: "I8", FileType: -1})
	I16  = Register(&DType{Name: "I16", Block: 1, Bytes: 2, GGUF: 25, SafeTensors: "I16", FileType: -1})
	I32  = Register(&DType{Name: "I32", Block: 1, Bytes: 4, GGUF: 26, SafeTensors: "I32", FileType: -1})
	I64  = Register(&DType{Name: "I64", Block: 1, Bytes: 8, GGUF: 27, SafeTensors: "I64", FileType: -1})
	U8   = Register(&DType{Name: "U8", Block: 1, Bytes: 1, GGUF: -1, SafeTensors: "U8", FileType: -1})
	U16  = Register(&DType{Name: "U16", Block: 1, Bytes: 2, GGUF: -1, SafeTensors: "U16", FileType: -1})
	U32  = Register(&DType{Name: "U32", Block: 1, Bytes: 4, GGUF: -1, SafeTensors: "U32", FileType: -1})
	U64  = Register(&DType{Name: "U64", Block: 1, Bytes: 8, GGUF: -1, SafeTensors: "U64", FileType: -1})
	Bool = Register(&DType{Name: "BOOL", Block: 1, Bytes: 1, GGUF: -1, SafeTensors: "BOOL", FileType: -1})
)

func decodeF64(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
	}
}

func encodeF64(dst []byte, src []float32) {
	for i, v := range src {
		binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(float64(v)))
	}
}

// ErrNoDecoder says that the elements of a tensor cannot be turned into numbers:
// it holds integers, or blocks of a type that is only carried as bytes.
var ErrNoDecoder = errors.New("cannot be decoded")

// noDecoder explains why t has no numbers, and which types have.
func (t *Tensor) noDecoder() error {
	where := fmt.Sprintf("tensor %q", t.Name)
	if t.File != "" {
		where = t.File + ": " + where
	}
	if !t.Type.Quantised() {
		return fmt.Errorf("%s: type %s %w: it holds no real numbers", where, t.Type, ErrNoDecoder)
	}
	var names []string
	for _, d := range All() {
		if d.Decode != nil {
			names = append(names, d.Name)
		}
	}
	return fmt.Errorf("%s: type %s %w: use a file of type %s", where, t.Type, ErrNoDecoder, strings.Join(names, ", "))
}
