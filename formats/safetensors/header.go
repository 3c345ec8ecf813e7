package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// MaxHeader is the largest header that is read, the limit of the Rust crate.
const MaxHeader = 100_000_000

// Limits of what a header holds, far more than any file has: what is short there
// takes ten times its bytes in memory.
const (
	maxTensors  = 1 << 18
	maxMetadata = 1 << 16
	maxRank     = 64
)

// entry is one tensor of the header before it is checked against the data.
type entry struct {
	name       string
	dtype      string
	shape      []int
	begin, end int64
	at         int64 // where in the file the entry stands
	seen       uint8 // which of the three members were there
}

// Parse reads the bytes of a whole file. The tensors of the result are views
// of data; name is used in errors.
func Parse(name string, data []byte) (*File, error) {
	fail := func(err error, at int64, found, want string) error {
		return &formats.FileError{File: name, Offset: at, Found: found, Want: want, Err: err}
	}
	if err := formats.Impostor(name, data[:min(len(data), 4096)]); err != nil && !looksRight(data) {
		return nil, err
	}
	size := int64(len(data))
	if size < 10 {
		return nil, fail(formats.ErrTruncated, 0, fmt.Sprintf("%d bytes", size), "at least 10 bytes: a length and a header")
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case data[8] != '{':
		return nil, &formats.FileError{File: name, Offset: 8, Found: fmt.Sprintf("%q", data[:min(16, len(data))]),
			Want: "a length of 8 bytes and a JSON header that begins with {", Err: formats.ErrHeader,
			Hint: "This is not a safetensors file, whatever its name says"}
	case n > MaxHeader:
		return nil, fail(formats.ErrLimit, 0, fmt.Sprintf("a header of %d bytes", n), fmt.Sprintf("at most %d", MaxHeader))
	case int64(n) > size-8:
		return nil, truncated(name, size, fmt.Sprintf("the header alone ends at byte %d", 8+n))
	}
	f := &File{Path: name, HeaderSize: int64(n)}
	p := parser{file: name, b: data[8 : 8+n]}
	entries, err := p.header(f)
	if err != nil {
		return nil, err
	}
	base := 8 + int64(n)
	sort.SliceStable(entries, func(i, j int) bool {
		a, b := &entries[i], &entries[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		return a.end < b.end
	})
	var pos int64
	f.Tensors = make([]*tensor.Tensor, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		t, err := e.check(name, pos)
		if err != nil {
			return nil, err
		}
		pos = e.end
		if e.end > size-base {
			last := entries[len(entries)-1].end
			if last > math.MaxInt64-base {
				last = math.MaxInt64 - base
			}
			return nil, truncated(name, size, fmt.Sprintf("tensor %q ends at byte %d and the last one at byte %d", e.name, base+e.end, base+last))
		}
		t.Data = data[base+e.begin : base+e.end : base+e.end]
		t.Offset = base + e.begin
		f.Tensors = append(f.Tensors, t)
	}
	if pos != size-base {
		return nil, fail(formats.ErrLayout, base+pos, fmt.Sprintf("%d bytes after the last tensor", size-base-pos), "the end of the file")
	}
	return f, nil
}

// looksRight excuses a file whose length word resembles another magic.
func looksRight(data []byte) bool {
	return len(data) > 10 && data[8] == '{' && binary.LittleEndian.Uint64(data) <= MaxHeader
}

func truncated(name string, size int64, why string) error {
	return &formats.FileError{File: name, Found: fmt.Sprintf("%d bytes", size), Want: "more: " + why, Err: formats.ErrTruncated,
		Hint: "A download that broke off leaves such a file: download it again"}
}

// check verifies one entry, whose data must begin at pos of the data section.
func (e *entry) check(file string, pos int64) (*tensor.Tensor, error) {
	fail := func(err error, found, want string) error {
		return &formats.FileError{File: file, Tensor: e.name, Offset: e.at, Found: found, Want: want, Err: err}
	}
	d := tensor.BySafeTensors(e.dtype)
	if d == nil {
		if otherTypes[e.dtype] {
			return nil, fail(formats.ErrUnsupported, "type "+e.dtype, "one of "+knownTypes())
		}
		return nil, fail(formats.ErrType, fmt.Sprintf("type %q", e.dtype), "one of "+knownTypes())
	}
	switch {
	case e.end < e.begin:
		return nil, fail(formats.ErrLayout, fmt.Sprintf("data from %d to %d", e.begin, e.end), "an end that is not before the begin")
	case e.begin < pos:
		return nil, fail(formats.ErrLayout, fmt.Sprintf("data begins at %d", e.begin), fmt.Sprintf("%d: it overlaps the tensor before it", pos))
	case e.begin > pos:
		return nil, fail(formats.ErrLayout, fmt.Sprintf("data begins at %d", e.begin), fmt.Sprintf("%d: there is a hole before it", pos))
	}
	n, ok := formats.Elements(e.shape)
	if !ok {
		return nil, fail(formats.ErrOverflow, fmt.Sprintf("shape %v", e.shape), "fewer than 2^63 elements")
	}
	bytes, ok := d.Size(n)
	if !ok {
		return nil, fail(formats.ErrOverflow, fmt.Sprintf("shape %v", e.shape), "a size below 2^63 bytes")
	}
	if bytes != e.end-e.begin {
		return nil, fail(formats.ErrShape, fmt.Sprintf("%d bytes of data for shape %v of type %s", e.end-e.begin, e.shape, e.dtype), fmt.Sprintf("%d", bytes))
	}
	return &tensor.Tensor{Name: e.name, Type: d, Shape: e.shape, File: file}, nil
}

// otherTypes are types of the format that hold no weights peftkit can use.
var otherTypes = map[string]bool{"C64": true, "F8_E4M3": true, "F8_E5M2": true, "F8_E8M0": true, "F8_E4M3FNUZ": true, "F8_E5M2FNUZ": true, "F6_E2M3": true, "F6_E3M2": true, "F4": true}

func knownTypes() string {
	var s []string
	for _, d := range tensor.All() {
		if d.SafeTensors != "" {
			s = append(s, d.SafeTensors)
		}
	}
	return strings.Join(s, ", ")
}

// parser reads the JSON of a header, which is an object of objects of fixed
// members. It is stricter than a general parser: nothing may appear twice.
type parser struct {
	file string
	b    []byte
	i    int
}

func (p *parser) fail(err error, found, want string) error {
	return &formats.FileError{File: p.file, Offset: int64(p.i) + 8, Found: found, Want: want, Err: err}
}

func (p *parser) bad(want string) error {
	found := "the end of the header"
	if p.i < len(p.b) {
		found = fmt.Sprintf("%q", p.b[p.i:min(p.i+12, len(p.b))])
	}
	return p.fail(formats.ErrHeader, found, want)
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// take consumes c after white space and reports whether it was there.
func (p *parser) take(c byte) bool {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

// object calls member for each key of an object.
func (p *parser) object(member func(key string, at int) error) error {
	if !p.take('{') {
		return p.bad("{")
	}
	if p.take('}') {
		return nil
	}
	for {
		p.space()
		at := p.i
		key, err := p.str()
		if err != nil {
			return err
		}
		if !p.take(':') {
			return p.bad(":")
		}
		if err := member(key, at); err != nil {
			return err
		}
		if p.take('}') {
			return nil
		}
		if !p.take(',') {
			return p.bad(", or }")
		}
	}
}

func (p *parser) header(f *File) ([]entry, error) {
	if !utf8.Valid(p.b) {
		return nil, p.fail(formats.ErrHeader, "bytes that are not UTF-8", "JSON")
	}
	var entries []entry
	names := map[string]struct{}{}
	err := p.object(func(key string, at int) error {
		if _, dup := names[key]; dup {
			p.i = at
			return p.fail(formats.ErrDuplicate, fmt.Sprintf("%q for the second time", key), "each name once")
		}
		names[key] = struct{}{}
		if key == "__metadata__" {
			return p.metadata(f)
		}
		if len(entries) == maxTensors {
			p.i = at
			return p.fail(formats.ErrLimit, fmt.Sprintf("more than %d tensors", maxTensors), "the tensors of a model")
		}
		e := entry{name: key, at: int64(at) + 8}
		if err := p.entry(&e); err != nil {
			if fe, ok := err.(*formats.FileError); ok {
				fe.Tensor = key
			}
			return err
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if p.space(); p.i != len(p.b) {
		return nil, p.bad("nothing but spaces after the header")
	}
	return entries, nil
}

func (p *parser) metadata(f *File) error {
	if p.space(); strings.HasPrefix(string(p.b[p.i:min(p.i+4, len(p.b))]), "null") {
		p.i += 4
		return nil
	}
	f.Metadata = map[string]string{}
	return p.object(func(key string, at int) error {
		if _, dup := f.Metadata[key]; dup {
			p.i = at
			return p.fail(formats.ErrDuplicate, fmt.Sprintf("%q for the second time in __metadata__", key), "each key once")
		}
		if len(f.Metadata) == maxMetadata {
			p.i = at
			return p.fail(formats.ErrLimit, fmt.Sprintf("more than %d entries of __metadata__", maxMetadata), "a few")
		}
		p.space()
		v, err := p.str()
		f.Metadata[key] = v
		return err
	})
}

// The members of an entry, as bits of entry.seen.
const (
	seenType = 1 << iota
	seenShape
	seenOffsets
)

func (p *parser) entry(e *entry) error {
	err := p.object(func(key string, at int) error {
		var bit uint8
		switch key {
		case "dtype":
			bit = seenType
		case "shape":
			bit = seenShape
		case "data_offsets":
			bit = seenOffsets
		default:
			p.i = at
			return p.fail(formats.ErrHeader, fmt.Sprintf("member %q", key), "dtype, shape and data_offsets only")
		}
		if e.seen&bit != 0 {
			p.i = at
			return p.fail(formats.ErrDuplicate, fmt.Sprintf("%q for the second time", key), "each member once")
		}
		e.seen |= bit
		p.space()
		switch bit {
		case seenType:
			var err error
			e.dtype, err = p.str()
			return err
		case seenShape:
			wide := false // for an int of 32 bits
			err := p.numbers(maxRank, func(v int64) {
				wide = wide || v > math.MaxInt
				e.shape = append(e.shape, int(v))
			})
			if err == nil && wide {
				err = p.fail(formats.ErrOverflow, "a dimension beyond this machine's integers", fmt.Sprintf("at most %d", math.MaxInt))
			}
			return err
		}
		var v []int64
		if err := p.numbers(maxRank, func(x int64) { v = append(v, x) }); err != nil {
			return err
		}
		if len(v) != 2 {
			return p.fail(formats.ErrHeader, fmt.Sprintf("%d data_offsets", len(v)), "2")
		}
		e.begin, e.end = v[0], v[1]
		return nil
	})
	if err == nil && e.seen != seenType|seenShape|seenOffsets {
		err = p.fail(formats.ErrHeader, "an entry without "+missing(e.seen), "dtype, shape and data_offsets")
	}
	if err == nil && e.shape == nil {
		e.shape = []int{}
	}
	return err
}

func missing(seen uint8) string {
	switch {
	case seen&seenType == 0:
		return "dtype"
	case seen&seenShape == 0:
		return "shape"
	}
	return "data_offsets"
}

// numbers reads an array of at most n non-negative integers.
func (p *parser) numbers(n int, add func(int64)) error {
	if !p.take('[') {
		return p.bad("[")
	}
	if p.take(']') {
		return nil
	}
	for {
		p.space()
		start := p.i
		var v int64
		for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
			d := int64(p.b[p.i] - '0')
			if v > (math.MaxInt64-d)/10 {
				p.i = start
				return p.fail(formats.ErrOverflow, fmt.Sprintf("%q", p.b[start:min(start+24, len(p.b))]), "a number below 2^63")
			}
			v = v*10 + d
			p.i++
		}
		if p.i == start || (p.b[start] == '0' && p.i > start+1) {
			p.i = start
			return p.bad("a non-negative integer")
		}
		if n--; n < 0 {
			p.i = start
			return p.fail(formats.ErrLimit, "an array without end", fmt.Sprintf("at most %d numbers", maxRank))
		}
		add(v)
		if p.take(']') {
			return nil
		}
		if !p.take(',') {
			return p.bad(", or ]")
		}
	}
}
