package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/peftkit/peftkit/formats"
)

// cursor walks over the bytes of a header. After the first error every read
// returns zero and the error stays.
type cursor struct {
	file string
	b    []byte
	i    int
	key  string // metadata key or tensor name being read, for errors
	err  error
}

func (c *cursor) left() int { return len(c.b) - c.i }

func (c *cursor) fail(kind error, found, want string) {
	if c.err == nil {
		c.err = &formats.FileError{File: c.file, Tensor: c.key, Offset: int64(c.i), Found: found, Want: want, Err: kind}
	}
}

// short records that the file ends inside the header.
func (c *cursor) short(what string) {
	if c.err == nil {
		c.err = &formats.FileError{File: c.file, Tensor: c.key, Offset: int64(c.i), Err: formats.ErrTruncated,
			Found: fmt.Sprintf("%d bytes left", c.left()), Want: what,
			Hint: "A download that broke off leaves such a file: download it again"}
	}
}

// take returns the next n bytes.
func (c *cursor) take(n int, what string) []byte {
	if c.err != nil {
		return nil
	}
	if n > c.left() {
		c.short(what)
		return nil
	}
	b := c.b[c.i : c.i+n]
	c.i += n
	return b
}

func (c *cursor) u32(what string) uint32 {
	if b := c.take(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64(what string) uint64 {
	if b := c.take(8, what); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// maxString is the longest string that llama.cpp reads.
const maxString = 1 << 30

// bytes returns the bytes of a string.
func (c *cursor) bytes(what string) []byte {
	// No message is built before it is needed: vocabularies have many strings.
	n := c.u64(what)
	if c.err != nil {
		return nil
	}
	if n > maxString {
		c.i -= 8
		c.fail(formats.ErrLimit, fmt.Sprintf("%s of %d bytes", what, n), fmt.Sprintf("at most %d", maxString))
		return nil
	}
	if int(n) > c.left() {
		c.short(fmt.Sprintf("%s of %d bytes", what, n))
		return nil
	}
	return c.take(int(n), what)
}

// value reads a metadata value of type t.
func (c *cursor) value(t uint32) any {
	if t == typeString {
		return string(c.bytes("a string"))
	}
	if t == typeArray {
		return c.array()
	}
	if t >= numTypes {
		c.fail(formats.ErrType, typeName(t), "a value type from 0 to 12")
		return nil
	}
	b := c.take(valueSize[t], "a value of type "+valueName[t])
	if b == nil {
		return nil
	}
	le := binary.LittleEndian
	switch t {
	case typeUint8:
		return b[0]
	case typeInt8:
		return int8(b[0])
	case typeUint16:
		return le.Uint16(b)
	case typeInt16:
		return int16(le.Uint16(b))
	case typeUint32:
		return le.Uint32(b)
	case typeInt32:
		return int32(le.Uint32(b))
	case typeFloat32:
		return math.Float32frombits(le.Uint32(b))
	case typeBool:
		return b[0] != 0
	case typeUint64:
		return le.Uint64(b)
	case typeInt64:
		return int64(le.Uint64(b))
	}
	return math.Float64frombits(le.Uint64(b))
}

// maxArray is the longest array that llama.cpp reads.
const maxArray = 1 << 30

// array reads an array. Its length is checked against the bytes that are left
// before memory is reserved.
func (c *cursor) array() any {
	at := c.i
	t := c.u32("the element type of an array")
	n64 := c.u64("the length of an array")
	if c.err != nil {
		return nil
	}
	size := 8 // a string takes at least its length
	switch {
	case t == typeArray:
		c.i = at
		c.fail(formats.ErrUnsupported, "an array of arrays", "an array of plain values, as llama.cpp reads")
		return nil
	case t >= numTypes:
		c.i = at
		c.fail(formats.ErrType, "an array of "+typeName(t), "an element type from 0 to 12")
		return nil
	case t != typeString:
		size = valueSize[t]
	}
	if n64 > maxArray {
		c.i = at
		c.fail(formats.ErrLimit, fmt.Sprintf("an array of %d elements", n64), fmt.Sprintf("at most %d", maxArray))
		return nil
	}
	if n64 > uint64(c.left()/size) {
		c.short(fmt.Sprintf("an array of %d elements of type %s", n64, valueName[t]))
		return nil
	}
	n := int(n64)
	if t == typeString {
		return c.strings(n)
	}
	b := c.take(n*size, "an array")
	le := binary.LittleEndian
	switch t {
	case typeUint8:
		return append(make([]uint8, 0, n), b...)
	case typeInt8:
		return decode(n, func(i int) int8 { return int8(b[i]) })
	case typeUint16:
		return decode(n, func(i int) uint16 { return le.Uint16(b[2*i:]) })
	case typeInt16:
		return decode(n, func(i int) int16 { return int16(le.Uint16(b[2*i:])) })
	case typeUint32:
		return decode(n, func(i int) uint32 { return le.Uint32(b[4*i:]) })
	case typeInt32:
		return decode(n, func(i int) int32 { return int32(le.Uint32(b[4*i:])) })
	case typeFloat32:
		return decode(n, func(i int) float32 { return math.Float32frombits(le.Uint32(b[4*i:])) })
	case typeBool:
		return decode(n, func(i int) bool { return b[i] != 0 })
	case typeUint64:
		return decode(n, func(i int) uint64 { return le.Uint64(b[8*i:]) })
	case typeInt64:
		return decode(n, func(i int) int64 { return int64(le.Uint64(b[8*i:])) })
	}
	return decode(n, func(i int) float64 { return math.Float64frombits(le.Uint64(b[8*i:])) })
}

func decode[T any](n int, at func(i int) T) []T {
	v := make([]T, n)
	for i := range v {
		v[i] = at(i)
	}
	return v
}

// strings reads n strings. All share one copy of the bytes they stand in: a
// vocabulary has a hundred thousand of them.
func (c *cursor) strings(n int) []string {
	start := c.i
	for range n {
		c.bytes("a string of an array")
		if c.err != nil {
			return nil
		}
	}
	all := string(c.b[start:c.i])
	v := make([]string, n)
	at := 0
	for i := range v {
		k := int(binary.LittleEndian.Uint64(c.b[start+at:]))
		at += 8
		v[i] = all[at : at+k]
		at += k
	}
	return v
}

// skip passes over a value without keeping it.
func (c *cursor) skip(t uint32) {
	switch {
	case t == typeString:
		c.bytes("a string")
	case t == typeArray:
		et, n := c.u32("the element type of an array"), c.u64("the length of an array")
		switch {
		case c.err != nil:
		case et >= numTypes || et == typeArray:
			c.fail(formats.ErrType, "an array of "+typeName(et), "an array of plain values")
		case et == typeString:
			for ; n > 0 && c.err == nil; n-- {
				c.bytes("a string of an array")
			}
		case n > uint64(c.left()/valueSize[et]):
			c.short("an array")
		default:
			c.i += int(n) * valueSize[et]
		}
	case t >= numTypes:
		c.fail(formats.ErrType, typeName(t), "a value type from 0 to 12")
	default:
		c.take(valueSize[t], "a value")
	}
}
