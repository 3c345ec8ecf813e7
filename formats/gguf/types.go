package gguf

import (
	"fmt"

	"github.com/peftkit/peftkit/tensor"
)

// Value types of metadata (gguf.h, enum gguf_type).
const (
	typeUint8 uint32 = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
	numTypes
)

// valueSize is the encoded size of each fixed-size value type, 0 for the others.
var valueSize = [numTypes]int{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

var valueName = [numTypes]string{"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"}

func typeName(t uint32) string {
	if t < numTypes {
		return valueName[t]
	}
	return fmt.Sprintf("value type %d", t)
}

// carried are the ggml types (ggml.h, enum ggml_type) that peftkit has no decoder
// for. Files that hold them can be inspected and copied byte for byte. A type that
// is registered with package tensor takes precedence.
var carried = map[int]*tensor.DType{}

func init() {
	for _, d := range []tensor.DType{
		{Name: "Q5_0", Block: 32, Bytes: 22, GGUF: 6, FileType: 8},
		{Name: "Q5_1", Block: 32, Bytes: 24, GGUF: 7, FileType: 9},
		{Name: "Q8_1", Block: 32, Bytes: 36, GGUF: 9, FileType: -1},
		{Name: "Q2_K", Block: 256, Bytes: 84, GGUF: 10, FileType: 10},
		{Name: "Q3_K", Block: 256, Bytes: 110, GGUF: 11, FileType: 12},
		{Name: "Q4_K", Block: 256, Bytes: 144, GGUF: 12, FileType: 15},
		{Name: "Q5_K", Block: 256, Bytes: 176, GGUF: 13, FileType: 17},
		{Name: "Q6_K", Block: 256, Bytes: 210, GGUF: 14, FileType: 18},
		{Name: "Q8_K", Block: 256, Bytes: 292, GGUF: 15, FileType: -1},
		{Name: "IQ2_XXS", Block: 256, Bytes: 66, GGUF: 16, FileType: 19},
		{Name: "IQ2_XS", Block: 256, Bytes: 74, GGUF: 17, FileType: 20},
		{Name: "IQ3_XXS", Block: 256, Bytes: 98, GGUF: 18, FileType: 23},
		{Name: "IQ1_S", Block: 256, Bytes: 50, GGUF: 19, FileType: 24},
		{Name: "IQ4_NL", Block: 32, Bytes: 18, GGUF: 20, FileType: 25},
		{Name: "IQ3_S", Block: 256, Bytes: 110, GGUF: 21, FileType: 26},
		{Name: "IQ2_S", Block: 256, Bytes: 82, GGUF: 22, FileType: 28},
		{Name: "IQ4_XS", Block: 256, Bytes: 136, GGUF: 23, FileType: 30},
		{Name: "IQ1_M", Block: 256, Bytes: 56, GGUF: 29, FileType: 31},
		{Name: "TQ1_0", Block: 256, Bytes: 54, GGUF: 34, FileType: 36},
		{Name: "TQ2_0", Block: 256, Bytes: 66, GGUF: 35, FileType: 37},
		{Name: "MXFP4", Block: 32, Bytes: 17, GGUF: 39, FileType: 38},
		{Name: "NVFP4", Block: 64, Bytes: 36, GGUF: 40, FileType: 39},
		{Name: "Q1_0", Block: 128, Bytes: 18, GGUF: 41, FileType: 40},
		{Name: "Q2_0", Block: 64, Bytes: 18, GGUF: 42, FileType: 41},
	} {
		carried[d.GGUF] = &d
	}
}

// typeByID finds a storage type by its ggml id; nil when ggml has no such type
// or has dropped it.
func typeByID(id uint32) *tensor.DType {
	if id >= 1<<16 {
		return nil
	}
	if d := tensor.ByGGUF(int(id)); d != nil {
		return d
	}
	return carried[int(id)]
}
