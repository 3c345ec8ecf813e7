package main

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// R's serialization format (R Internals, section 1.8), as far as the lazy-load
// database of a data package needs it: lists, integer and character vectors,
// pairlists of attributes.
const (
	rSymbol, rPairlist, rChar, rLogical, rInt, rReal, rString, rList = 1, 2, 9, 10, 13, 14, 16, 19
	rRef, rNil, rGlobalEnv                                           = 255, 254, 253
)

// rValue is one R object: Items of a list, Strings or Ints of a vector, and its
// attributes by name.
type rValue struct {
	Items   []*rValue
	Strings []string
	Ints    []int
	Attr    map[string]*rValue
}

type rReader struct {
	b    *bytes.Reader
	refs []string
	err  error
}

func (r *rReader) int() int {
	var v int32
	if err := binary.Read(r.b, binary.BigEndian, &v); err != nil && r.err == nil {
		r.err = err
	}
	return int(v)
}

func (r *rReader) bytes(n int) []byte {
	if n < 0 || n > r.b.Len() {
		r.err = fmt.Errorf("length %d of %d bytes left", n, r.b.Len())
		return nil
	}
	out := make([]byte, n)
	_, err := io.ReadFull(r.b, out)
	if err != nil && r.err == nil {
		r.err = err
	}
	return out
}

// readR parses a serialized object in XDR form, version 2 or 3.
func readR(data []byte) (*rValue, error) {
	r := &rReader{b: bytes.NewReader(data)}
	if string(r.bytes(2)) != "X\n" {
		return nil, errors.New("data of R: not in XDR form")
	}
	version := r.int()
	r.bytes(8) // writer and minimal reader version
	if version == 3 {
		r.bytes(r.int()) // native encoding
	}
	v := r.item()
	return v, r.err
}

func (r *rReader) item() *rValue {
	flags := r.int()
	if r.err != nil {
		return nil
	}
	v := &rValue{}
	switch kind := flags & 0xff; kind {
	case rNil, rGlobalEnv:
		return v
	case rRef:
		v.Strings = []string{r.refs[(flags>>8)-1]}
		return v
	case rSymbol:
		name := r.item()
		r.refs = append(r.refs, name.Strings[0])
		return name
	case rChar:
		n := r.int()
		if n < 0 {
			n = 0 // NA
		}
		v.Strings = []string{string(r.bytes(n))}
		return v
	case rPairlist:
		if flags&(1<<9) != 0 {
			r.item()
		}
		tag := ""
		if flags&(1<<10) != 0 {
			tag = r.item().Strings[0]
		}
		v.Attr = map[string]*rValue{tag: r.item()}
		if rest := r.item(); rest != nil {
			for k, x := range rest.Attr {
				v.Attr[k] = x
			}
		}
		return v
	case rInt, rLogical:
		for range r.int() {
			v.Ints = append(v.Ints, r.int())
		}
	case rReal:
		r.bytes(8 * r.int())
	case rString:
		for range r.int() {
			s := r.item()
			if r.err != nil {
				return nil
			}
			v.Strings = append(v.Strings, s.Strings...)
		}
	case rList:
		for range r.int() {
			v.Items = append(v.Items, r.item())
			if r.err != nil {
				return nil
			}
		}
	default:
		r.err = fmt.Errorf("data of R: object type %d is not read here", kind)
		return nil
	}
	if flags&(1<<9) != 0 {
		if a := r.item(); a != nil {
			v.Attr = a.Attr
		}
	}
	return v
}

// readLazyData reads a lazy-load database (base.rdx and base.rdb): the character
// vectors of a data package by name.
func readLazyData(base string) (map[string][]string, error) {
	f, err := os.Open(base + ".rdx")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	idx, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	root, err := readR(idx)
	if err != nil {
		return nil, fmt.Errorf("%s.rdx: %w", base, err)
	}
	db, err := os.ReadFile(base + ".rdb")
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	vars := root.Items[0]
	for i, name := range vars.Attr["names"].Strings {
		at := vars.Items[i].Ints[0] + 4 // behind the uncompressed length
		z, err := zlib.NewReader(bytes.NewReader(db[at:]))
		if err != nil {
			return nil, fmt.Errorf("%s.rdb: %s: %w", base, name, err)
		}
		data, err := io.ReadAll(z)
		if err != nil {
			return nil, fmt.Errorf("%s.rdb: %s: %w", base, name, err)
		}
		v, err := readR(data)
		if err != nil {
			return nil, fmt.Errorf("%s.rdb: %s: %w", base, name, err)
		}
		out[name] = v.Strings
	}
	return out, nil
}
