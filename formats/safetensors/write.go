package safetensors

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/atomicfile"
)

// order is the place of each type in a file: the Rust crate sorts by its enum
// of types, descending, so that wide elements come first and stay aligned.
var order = map[string]int{
	"U64": 0, "I64": 1, "F64": 2, "F32": 3, "U32": 4, "I32": 5, "BF16": 6, "F16": 7, "U16": 8, "I16": 9,
	"F8_E4M3": 10, "F8_E5M2": 11, "I8": 12, "U8": 13, "BOOL": 14,
}

// Sorted returns the tensors in the order in which the format stores them: by
// type as in order, then by name.
func Sorted(tensors []formats.OutTensor) []formats.OutTensor {
	s := slices.Clone(tensors)
	rank := func(t *formats.OutTensor) int {
		if r, ok := order[t.Type.SafeTensors]; ok {
			return r
		}
		return len(order)
	}
	sort.SliceStable(s, func(i, j int) bool {
		if a, b := rank(&s[i]), rank(&s[j]); a != b {
			return a < b
		}
		return s[i].Name < s[j].Name
	})
	return s
}

// Write streams a file to w. metadata becomes __metadata__; transformers and
// PEFT write {"format":"pt"} and refuse files without it.
func Write(ctx context.Context, w io.Writer, name string, tensors []formats.OutTensor, metadata map[string]string) error {
	tensors = Sorted(tensors)
	head, err := header(name, tensors, metadata)
	if err != nil {
		return err
	}
	w = formats.WithContext(ctx, w)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for i := range tensors {
		if err := formats.WriteTensor(w, name, &tensors[i]); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes the file at path, which appears when it is complete. It
// refuses to overwrite one of sources.
func WriteFile(ctx context.Context, path string, sources []string, tensors []formats.OutTensor, metadata map[string]string) error {
	return atomicfile.WriteFile(ctx, path, sources, func(w io.Writer) error {
		return Write(ctx, w, path, tensors, metadata)
	})
}

// header builds the length and the padded JSON.
func header(file string, tensors []formats.OutTensor, metadata map[string]string) ([]byte, error) {
	fail := func(t *formats.OutTensor, found, want string) error {
		return &formats.FileError{File: file, Tensor: t.Name, Found: found, Want: want, Err: formats.ErrOutput}
	}
	b := []byte("{")
	if metadata != nil {
		b = append(b, `"__metadata__":`...)
		b = append(b, object(metadata)...)
	}
	seen := make(map[string]bool, len(tensors))
	var pos int64
	for i := range tensors {
		t := &tensors[i]
		switch {
		case t.Name == "" || t.Name == "__metadata__":
			return nil, fail(t, fmt.Sprintf("the tensor name %q", t.Name), "another name")
		case seen[t.Name]:
			return nil, fail(t, "two tensors of this name", "one")
		case t.Type.SafeTensors == "":
			return nil, fail(t, "type "+t.Type.Name, "a type that safetensors has: "+knownTypes())
		}
		seen[t.Name] = true
		n, ok := formats.CheckedSize(t.Type, t.Shape)
		if !ok || pos > math.MaxInt64-n {
			return nil, fail(t, fmt.Sprintf("shape %v", t.Shape), "a size below 2^63")
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, quote(t.Name)...)
		b = append(b, `:{"dtype":"`...)
		b = append(b, t.Type.SafeTensors...)
		b = append(b, `","shape":[`...)
		for k, d := range t.Shape {
			if k > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(d), 10)
		}
		b = append(b, `],"data_offsets":[`...)
		b = strconv.AppendInt(b, pos, 10)
		pos += n
		b = append(b, ',')
		b = strconv.AppendInt(b, pos, 10)
		b = append(b, `]}`...)
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b) > MaxHeader {
		return nil, &formats.FileError{File: file, Found: fmt.Sprintf("a header of %d bytes", len(b)), Want: fmt.Sprintf("at most %d", MaxHeader), Err: formats.ErrOutput}
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...), nil
}

// object writes a JSON object with sorted keys.
func object(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for i, k := range keys {
		keys[i] = quote(k) + ":" + quote(m[k])
	}
	return "{" + strings.Join(keys, ",") + "}"
}

// quote writes a JSON string without escaping more than JSON asks for.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}
