package gguf

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// Limits of the reader. Those that llama.cpp has are the same here; it sets none
// to the alignment.
const (
	maxAlignment = 1 << 20
	maxName      = 63
	maxDims      = 4
	defaultAlign = 32
	minKV        = 8 + 1 + 4 + 1 // key of one byte, type, value of one byte
	minInfo      = 8 + 4 + 4 + 8 // empty name, no dimension
	// Far more than any model has; each takes ten times its bytes in memory.
	maxKV        = 1 << 16
	maxTensors   = 1 << 17
	alignmentKey = "general.alignment"
	hintDownload = "A download that broke off leaves such a file: download it again"
)

// Parse reads the bytes of one whole file. Strings of the metadata are copies;
// tensors are views of data. name is used in errors. Split files are joined by
// Open only.
func Parse(name string, data []byte) (*File, error) {
	c := &cursor{file: name, b: data}
	nTensors, nKV, version, err := start(c)
	if err != nil {
		return nil, err
	}
	f := &File{Path: name, Version: version, Alignment: defaultAlign, Shards: []string{name}}
	seen := make(map[string]struct{}, min(nKV, 1024))
	for range nKV {
		kv := c.kv()
		if c.err != nil {
			return nil, c.err
		}
		if _, dup := seen[kv.Key]; dup {
			c.fail(formats.ErrDuplicate, "this key for the second time", "each key once")
			return nil, c.err
		}
		seen[kv.Key] = struct{}{}
		f.Meta = append(f.Meta, kv)
	}
	c.key = ""
	if err := f.setAlignment(name); err != nil {
		return nil, err
	}
	offsets, err := f.infos(c, nTensors)
	if err != nil {
		return nil, err
	}
	f.HeaderSize = int64(c.i)
	return f, f.place(name, data, offsets)
}

// start reads the fixed part of the header.
func start(c *cursor) (nTensors, nKV uint64, version uint32, err error) {
	if !bytes.HasPrefix(c.b, []byte("GGUF")) {
		if err := formats.Impostor(c.file, c.b[:min(len(c.b), 4096)]); err != nil {
			return 0, 0, 0, err
		}
		return 0, 0, 0, &formats.FileError{File: c.file, Err: formats.ErrHeader,
			Found: fmt.Sprintf("%q as the first bytes", c.b[:min(4, len(c.b))]), Want: `"GGUF"`}
	}
	c.i = 4
	version = c.u32("the version")
	nTensors = c.u64("the number of tensors")
	nKV = c.u64("the number of metadata entries")
	if c.err != nil {
		return 0, 0, 0, c.err
	}
	fe := &formats.FileError{File: c.file}
	switch {
	case version&0xffff == 0 && version != 0:
		fe.Offset, fe.Err, fe.Found, fe.Want = 4, formats.ErrUnsupported, fmt.Sprintf("a big-endian file of version %d", bits.ReverseBytes32(version)), "little-endian"
	case version == 1:
		fe.Offset, fe.Err, fe.Found, fe.Want = 4, formats.ErrUnsupported, "GGUF version 1 (2023)", "version 2 or 3"
	case version != 2 && version != 3:
		fe.Offset, fe.Err, fe.Found, fe.Want = 4, formats.ErrUnsupported, fmt.Sprintf("GGUF version %d", version), "version 2 or 3"
	case nTensors > uint64(c.left()/minInfo):
		fe.Offset, fe.Err = 8, formats.ErrLimit
		fe.Found, fe.Want = fmt.Sprintf("%d tensors", nTensors), fmt.Sprintf("no more than %d bytes can describe", len(c.b))
	case nKV > uint64(c.left()/minKV):
		fe.Offset, fe.Err = 16, formats.ErrLimit
		fe.Found, fe.Want = fmt.Sprintf("%d metadata entries", nKV), fmt.Sprintf("no more than %d bytes can hold", len(c.b))
	case nTensors > maxTensors:
		fe.Offset, fe.Err = 8, formats.ErrLimit
		fe.Found, fe.Want = fmt.Sprintf("%d tensors", nTensors), fmt.Sprintf("at most %d", maxTensors)
	case nKV > maxKV:
		fe.Offset, fe.Err = 16, formats.ErrLimit
		fe.Found, fe.Want = fmt.Sprintf("%d metadata entries", nKV), fmt.Sprintf("at most %d", maxKV)
	default:
		return nTensors, nKV, version, nil
	}
	return 0, 0, 0, fe
}

// kv reads one metadata entry.
func (c *cursor) kv() formats.KV {
	c.key = ""
	key := string(c.bytes("a metadata key"))
	if c.err == nil && key == "" {
		c.fail(formats.ErrHeader, "an empty metadata key", "a name")
	}
	c.key = key
	t := c.u32("the type of a value")
	if c.err != nil {
		return formats.KV{}
	}
	return formats.KV{Key: key, Value: c.value(t)}
}

func (f *File) setAlignment(name string) error {
	v := f.Meta.Get(alignmentKey)
	if v == nil {
		return nil
	}
	a, ok := v.(uint32)
	kind := formats.ErrHeader
	if !ok {
		kind = formats.ErrType
	}
	if !ok || a == 0 || a&(a-1) != 0 || a > maxAlignment {
		return &formats.FileError{File: name, Tensor: alignmentKey, Err: kind, Found: fmt.Sprintf("%v (%T)", v, v),
			Want: fmt.Sprintf("a uint32 that is a power of two up to %d", maxAlignment)}
	}
	f.Alignment = int(a)
	return nil
}

// infos reads the descriptions of the tensors and returns their declared offsets.
func (f *File) infos(c *cursor, n uint64) ([]uint64, error) {
	var offsets []uint64
	names := make(map[string]struct{}, min(n, 4096))
	for range n {
		t, off := c.info()
		if c.err != nil {
			return nil, c.err
		}
		if _, dup := names[t.Name]; dup {
			c.fail(formats.ErrDuplicate, "this tensor for the second time", "each name once")
			return nil, c.err
		}
		names[t.Name] = struct{}{}
		f.Tensors = append(f.Tensors, t)
		offsets = append(offsets, off)
	}
	return offsets, nil
}

// info reads one tensor description.
func (c *cursor) info() (*tensor.Tensor, uint64) {
	c.key = ""
	at := c.i
	name := c.bytes("a tensor name")
	if c.err == nil && len(name) > maxName {
		c.i = at
		c.fail(formats.ErrLimit, fmt.Sprintf("a tensor name of %d bytes", len(name)), fmt.Sprintf("at most %d", maxName))
	}
	t := &tensor.Tensor{Name: string(name), File: c.file}
	c.key = t.Name
	nd := c.u32("the number of dimensions")
	if c.err == nil && nd > maxDims {
		c.i -= 4
		c.fail(formats.ErrLimit, fmt.Sprintf("%d dimensions", nd), fmt.Sprintf("at most %d", maxDims))
	}
	if c.err != nil {
		return nil, 0
	}
	t.Shape = make([]int, nd)
	shapeAt := c.i
	for i := range t.Shape {
		d := c.u64("a dimension")
		if c.err == nil && d > math.MaxInt {
			c.i -= 8
			c.fail(formats.ErrShape, fmt.Sprintf("dimension %d", int64(d)), "a number that is not negative")
		}
		t.Shape[len(t.Shape)-1-i] = int(d) // the file has the innermost first
	}
	if c.err != nil {
		return nil, 0
	}
	if _, ok := formats.Elements(t.Shape); !ok {
		c.i = shapeAt
		c.fail(formats.ErrOverflow, fmt.Sprintf("shape %v", t.Shape), "fewer than 2^63 elements")
		return nil, 0
	}
	id := c.u32("the type of a tensor")
	off := c.u64("the offset of a tensor")
	if c.err != nil {
		return nil, 0
	}
	if t.Type = typeByID(id); t.Type == nil {
		c.i -= 12
		c.fail(formats.ErrType, fmt.Sprintf("tensor type %d", id), "a type of ggml.h (0 to 42, without those it has removed)")
		return nil, 0
	}
	if t.Cols()%t.Type.Block != 0 {
		c.fail(formats.ErrShape, fmt.Sprintf("rows of %d elements of type %s", t.Cols(), t.Type), fmt.Sprintf("a multiple of %d", t.Type.Block))
		return nil, 0
	}
	return t, off
}

// place finds the data of each tensor. Offsets must be the running sum of the
// padded sizes, in the order of the file.
func (f *File) place(name string, data []byte, offsets []uint64) error {
	align := uint64(f.Alignment)
	f.DataOffset = int64(pad(uint64(f.HeaderSize), align))
	if len(offsets) == 0 {
		return nil
	}
	var pos uint64 // cannot wrap: it stays within 2^63 plus one padded tensor
	for i, t := range f.Tensors {
		fail := func(kind error, found, want, hint string) error {
			return &formats.FileError{File: name, Tensor: t.Name, Offset: f.DataOffset + int64(pos), Found: found, Want: want, Hint: hint, Err: kind}
		}
		n, ok := t.Type.Size(t.Elements())
		if !ok || uint64(n) > math.MaxInt64-pos-align-uint64(f.DataOffset) {
			return fail(formats.ErrOverflow, fmt.Sprintf("shape %v of type %s", t.Shape, t.Type), "a size below 2^63 bytes", "")
		}
		if offsets[i] != pos {
			return fail(formats.ErrLayout, fmt.Sprintf("offset %d", offsets[i]), fmt.Sprintf("%d, where the tensor before it ends", pos), "")
		}
		begin := uint64(f.DataOffset) + pos
		if end := begin + uint64(n); end > uint64(len(data)) {
			return fail(formats.ErrTruncated, fmt.Sprintf("a file of %d bytes", len(data)), fmt.Sprintf("at least %d", end), hintDownload)
		}
		t.Data = data[begin : begin+uint64(n) : begin+uint64(n)]
		t.Offset = int64(begin)
		pos += pad(uint64(n), align)
	}
	return nil
}

// pad rounds n up to a multiple of align, a power of two. n is at most 2^63.
func pad(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
