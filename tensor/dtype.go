// Package tensor describes stored tensors: element types (plain and
// block-quantised), shapes, and lazily read bytes. It knows no autograd.
//
// A [DType] is a registered description, so a new storage type is one file that
// calls [Register]: its name, ids in the file formats, block geometry, decoder
// and encoder. Shapes are row-major as in PyTorch, outermost dimension first; a
// block never crosses a row.
package tensor

import (
	"sort"
	"strings"

	"github.com/peftkit/peftkit/internal/spell"
)

// DType is one storage type. Values are compared by pointer: use the package
// variables ([F32], [F16], ...) or [ByName], never a copy.
type DType struct {
	// Name is the canonical spelling: "F32", "BF16", "Q8_0".
	Name string
	// Block is the number of elements in a block, 1 for plain types.
	Block int
	// Bytes is the size of a block in bytes.
	Bytes int
	// GGUF is the ggml type id (ggml.h, enum ggml_type), -1 when GGUF has none.
	GGUF int
	// SafeTensors is the dtype string of the safetensors header, "" when it has none.
	SafeTensors string
	// FileType is llama.cpp's general.file_type (enum llama_ftype) of a file
	// whose matrices are of this type, -1 when there is none.
	FileType int
	// Decode writes len(dst) float32 values from whole blocks of src.
	// len(dst) is a multiple of Block and len(src) is len(dst)/Block*Bytes.
	// nil for types that hold no real numbers (integers).
	Decode func(dst []float32, src []byte)
	// Encode is the inverse, rounding as ggml's reference does. nil when the
	// type can be read but not written.
	Encode func(dst []byte, src []float32)
}

// String returns the canonical name.
func (d *DType) String() string { return d.Name }

// Quantised reports whether elements are stored in blocks that share a scale.
func (d *DType) Quantised() bool { return d.Block > 1 }

// Size returns the bytes of n elements in whole blocks, and false if n is
// negative, no multiple of the block, or the size overflows.
func (d *DType) Size(n int64) (int64, bool) {
	if n < 0 || n%int64(d.Block) != 0 {
		return 0, false
	}
	b := n / int64(d.Block)
	if b > (1<<62)/int64(d.Bytes) {
		return 0, false
	}
	return b * int64(d.Bytes), true
}

var registry = map[string]*DType{}

// Register adds a storage type. It panics on an empty or duplicate name: that
// is a mistake in the program, found at start.
func Register(d *DType) *DType {
	key := strings.ToUpper(d.Name)
	if key == "" || d.Block < 1 || d.Bytes < 1 {
		panic("tensor: Register of an incomplete DType")
	}
	if registry[key] != nil {
		panic("tensor: DType registered twice: " + d.Name)
	}
	registry[key] = d
	return d
}

// All lists the registered types, sorted by name.
func All() []*DType {
	out := make([]*DType, 0, len(registry))
	for _, d := range registry {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// ByName finds a type by its canonical name, in any case ("q8_0").
func ByName(name string) (*DType, error) {
	if d := registry[strings.ToUpper(name)]; d != nil {
		return d, nil
	}
	var names []string
	for _, d := range All() {
		names = append(names, d.Name)
	}
	return nil, &spell.UnknownError{Kind: "tensor type", Word: name, Known: names}
}

// ByGGUF finds a type by its ggml id; nil when it is not supported.
func ByGGUF(id int) *DType {
	for _, d := range registry {
		if d.GGUF == id && id >= 0 {
			return d
		}
	}
	return nil
}

// BySafeTensors finds a type by its safetensors dtype string; nil when it is
// not supported.
func BySafeTensors(name string) *DType {
	for _, d := range registry {
		if d.SafeTensors == name && name != "" {
			return d
		}
	}
	return nil
}
