package gguf

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/atomicfile"
)

// Write streams a file of version 3 to w: the metadata in its order and with
// exactly its Go types, then the tensors in their order, each padded with zeros to
// the alignment (general.alignment if it is there, else 32), the last one too.
// name is used in errors.
func Write(ctx context.Context, w io.Writer, name string, meta formats.Meta, tensors []formats.OutTensor) error {
	head, sizes, align, err := header(name, meta, tensors)
	if err != nil {
		return err
	}
	w = formats.WithContext(ctx, w)
	if _, err := w.Write(head); err != nil {
		return err
	}
	zeros := make([]byte, align)
	for i := range tensors {
		if err := formats.WriteTensor(w, name, &tensors[i]); err != nil {
			return err
		}
		if _, err := w.Write(zeros[:pad(sizes[i], align)-sizes[i]]); err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes the file at path, which appears when it is complete. It
// refuses to overwrite one of sources.
func WriteFile(ctx context.Context, path string, sources []string, meta formats.Meta, tensors []formats.OutTensor) error {
	return atomicfile.WriteFile(ctx, path, sources, func(w io.Writer) error {
		return Write(ctx, w, path, meta, tensors)
	})
}

// header encodes everything before the data, padding included.
func header(file string, meta formats.Meta, tensors []formats.OutTensor) (b []byte, sizes []uint64, align uint64, err error) {
	fail := func(name, found, want string) ([]byte, []uint64, uint64, error) {
		return nil, nil, 0, &formats.FileError{File: file, Tensor: name, Found: found, Want: want, Err: formats.ErrOutput}
	}
	le := binary.LittleEndian
	b = append(b, "GGUF"...)
	b = le.AppendUint32(b, 3)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(meta)))
	keys := make(map[string]bool, len(meta))
	for _, kv := range meta {
		if kv.Key == "" || keys[kv.Key] {
			return fail(kv.Key, "an empty or repeated metadata key", "each key once")
		}
		keys[kv.Key] = true
		b = appendString(b, kv.Key)
		var ok bool
		if b, ok = appendValue(b, kv.Value); !ok {
			return fail(kv.Key, fmt.Sprintf("a value of Go type %T", kv.Value), "an integer of fixed width, a float, bool, string, or a slice of one")
		}
	}
	align = defaultAlign
	if v := meta.Get(alignmentKey); v != nil {
		a, ok := v.(uint32)
		if !ok || a == 0 || a&(a-1) != 0 || a > maxAlignment {
			return fail(alignmentKey, fmt.Sprintf("%v (%T)", v, v), fmt.Sprintf("a uint32 that is a power of two up to %d", maxAlignment))
		}
		align = uint64(a)
	}
	names := make(map[string]bool, len(tensors))
	var pos uint64
	for i := range tensors {
		t := &tensors[i]
		n, ok := formats.CheckedSize(t.Type, t.Shape)
		switch {
		case t.Name == "" || len(t.Name) > maxName:
			return fail(t.Name, fmt.Sprintf("a tensor name of %d bytes", len(t.Name)), fmt.Sprintf("1 to %d", maxName))
		case names[t.Name]:
			return fail(t.Name, "two tensors of this name", "one")
		case t.Type.GGUF < 0:
			return fail(t.Name, "type "+t.Type.Name, "a type that GGUF has")
		case len(t.Shape) > maxDims:
			return fail(t.Name, fmt.Sprintf("shape %v", t.Shape), fmt.Sprintf("at most %d dimensions", maxDims))
		case !ok || uint64(n) > math.MaxInt64-pos-align:
			return fail(t.Name, fmt.Sprintf("shape %v of type %s", t.Shape, t.Type), fmt.Sprintf("rows that are a multiple of %d, and a size below 2^63", t.Type.Block))
		}
		names[t.Name] = true
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.Shape)))
		for k := len(t.Shape) - 1; k >= 0; k-- {
			b = le.AppendUint64(b, uint64(t.Shape[k]))
		}
		b = le.AppendUint32(b, uint32(t.Type.GGUF))
		b = le.AppendUint64(b, pos)
		sizes = append(sizes, uint64(n))
		pos += pad(uint64(n), align)
	}
	return append(b, make([]byte, pad(uint64(len(b)), align)-uint64(len(b)))...), sizes, align, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue encodes the type and the value; ok is false for a Go type that
// GGUF does not have.
func appendValue(b []byte, v any) (_ []byte, ok bool) {
	le := binary.LittleEndian
	tag := func(t uint32) []byte { return le.AppendUint32(b, t) }
	switch x := v.(type) {
	case uint8:
		return append(tag(typeUint8), x), true
	case int8:
		return append(tag(typeInt8), byte(x)), true
	case uint16:
		return le.AppendUint16(tag(typeUint16), x), true
	case int16:
		return le.AppendUint16(tag(typeInt16), uint16(x)), true
	case uint32:
		return le.AppendUint32(tag(typeUint32), x), true
	case int32:
		return le.AppendUint32(tag(typeInt32), uint32(x)), true
	case uint64:
		return le.AppendUint64(tag(typeUint64), x), true
	case int64:
		return le.AppendUint64(tag(typeInt64), uint64(x)), true
	case float32:
		return le.AppendUint32(tag(typeFloat32), math.Float32bits(x)), true
	case float64:
		return le.AppendUint64(tag(typeFloat64), math.Float64bits(x)), true
	case bool:
		return append(tag(typeBool), boolByte(x)), true
	case string:
		return appendString(tag(typeString), x), true
	case []uint8:
		return append(arrayHead(b, typeUint8, len(x)), x...), true
	case []int8:
		return appendEach(b, typeInt8, x, func(b []byte, e int8) []byte { return append(b, byte(e)) }), true
	case []uint16:
		return appendEach(b, typeUint16, x, le.AppendUint16), true
	case []int16:
		return appendEach(b, typeInt16, x, func(b []byte, e int16) []byte { return le.AppendUint16(b, uint16(e)) }), true
	case []uint32:
		return appendEach(b, typeUint32, x, le.AppendUint32), true
	case []int32:
		return appendEach(b, typeInt32, x, func(b []byte, e int32) []byte { return le.AppendUint32(b, uint32(e)) }), true
	case []uint64:
		return appendEach(b, typeUint64, x, le.AppendUint64), true
	case []int64:
		return appendEach(b, typeInt64, x, func(b []byte, e int64) []byte { return le.AppendUint64(b, uint64(e)) }), true
	case []float32:
		return appendEach(b, typeFloat32, x, func(b []byte, e float32) []byte { return le.AppendUint32(b, math.Float32bits(e)) }), true
	case []float64:
		return appendEach(b, typeFloat64, x, func(b []byte, e float64) []byte { return le.AppendUint64(b, math.Float64bits(e)) }), true
	case []bool:
		return appendEach(b, typeBool, x, func(b []byte, e bool) []byte { return append(b, boolByte(e)) }), true
	case []string:
		return appendEach(b, typeString, x, appendString), true
	}
	return b, false
}

func arrayHead(b []byte, t uint32, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, typeArray)
	b = binary.LittleEndian.AppendUint32(b, t)
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}

func appendEach[T any](b []byte, t uint32, v []T, add func([]byte, T) []byte) []byte {
	b = arrayHead(b, t, len(v))
	for _, e := range v {
		b = add(b, e)
	}
	return b
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}
