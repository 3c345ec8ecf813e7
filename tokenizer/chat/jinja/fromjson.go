package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// FromJSON turns one JSON value into what a template works with: objects keep the
// order of their keys, as Python's json does, and whole numbers stay whole, however
// long. A key that stands twice in an object is an error, and so are more than a
// million values: they would take many times the memory of the text.
func FromJSON(text []byte) (any, error) {
	if n := countValues(text); n > maxValues {
		return nil, fmt.Errorf("%d values in one, expected at most %d", n, maxValues)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := jsonValue(d, 0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// maxValues bounds the values of one JSON text, nested ones included. Python's json
// has no bound; a picture of 512 by 512 points has fewer.
const maxValues = 1 << 20

// countValues counts the values of a JSON text without decoding them: a list or an
// object has one more than it has commas, unless it is empty.
func countValues(text []byte) int {
	n, before := 1, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case ',':
			n++
		}
		if (before == '[' || before == '{') && c != ']' && c != '}' {
			n++
		}
		if before = c; c != '"' {
			continue
		}
		for i++; i < len(text) && text[i] != '"'; i++ {
			if text[i] == '\\' {
				i++
			}
		}
	}
	return n
}

func jsonValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch x := t.(type) {
	case json.Delim:
		if x == '[' {
			return jsonList(d, depth)
		}
		return jsonDict(d, depth)
	case json.Number:
		return jsonNumber(string(x))
	}
	return t, nil
}

func jsonList(d *json.Decoder, depth int) (*List, error) {
	out := NewList()
	for d.More() {
		v, err := jsonValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, v)
	}
	_, err := d.Token() // ]
	return out, err
}

func jsonDict(d *json.Decoder, depth int) (*Dict, error) {
	out := NewDict()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		if _, twice := out.Get(key); twice {
			return nil, fmt.Errorf("the key %q stands twice in an object", key)
		}
		v, err := jsonValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if err := out.Set(key, v); err != nil {
			return nil, err
		}
	}
	_, err := d.Token() // }
	return out, err
}

// jsonNumber reads a number as Python does: without a point or exponent it is whole.
func jsonNumber(s string) (any, error) {
	if !bytes.ContainsAny([]byte(s), ".eE") {
		if v, err := strconv.ParseInt(s, 10, 64); err == nil {
			return v, nil
		}
		return bigInt(s), nil
	}
	return strconv.ParseFloat(s, 64)
}
