package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// row is one record as the file holds it: a JSON object, a line of a table whose
// values are strings, a record of a Parquet file, or a text.
type row struct {
	line   int // of a Parquet file, the number of the record
	fields map[string]any
	file   string
	// columns are the fields in the order of a table, nil for JSON.
	columns []string
	// windows says that the record is the text of a whole file, to be split into
	// windows and not cut.
	windows bool
}

// parseObject decodes one JSON object; bad tells what is wrong with it.
func parseObject(text []byte) (fields map[string]any, bad *LineError) {
	if !utf8.Valid(text) {
		return nil, &LineError{Found: "bytes that are not UTF-8"}
	}
	if loneSurrogate(text) {
		return nil, &LineError{Found: `half of a surrogate pair (a \ud... escape without its partner)`}
	}
	fields, err := jsonFields(text)
	if err == nil {
		return fields, nil
	}
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return nil, &LineError{Found: "a JSON " + wrong.Value, Text: excerpt(text)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("unexpected end of JSON input")
	}
	return nil, &LineError{Found: strings.TrimPrefix(err.Error(), "json: "), Text: excerpt(text)}
}

// jsonFields decodes an object whose keys all differ.
func jsonFields(text []byte) (map[string]any, error) {
	if len(text) == 0 || text[0] != '{' {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, err
		}
		return nil, errors.New("null")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil { // {
		return nil, err
	}
	fields := map[string]any{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := key.(string) // what else stands before a colon is a syntax error
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("the field %q twice", name)
		}
		if fields[name], err = fieldValue(raw); err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
	}
	if _, err := d.Token(); err != nil { // }
		return nil, err
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("more after the object, %s", excerpt(rest))
	}
	return fields, nil
}

// fieldValue decodes the value of a field. Lists and objects are those of package
// jinja, whose keys keep their order: chat templates write them out.
func fieldValue(raw json.RawMessage) (v any, err error) {
	if raw[0] == '[' || raw[0] == '{' {
		return jinja.FromJSON(raw)
	}
	err = json.Unmarshal(raw, &v)
	return v, err
}

// loneSurrogate reports an escape \ud800 to \udfff that is no half of a pair;
// encoding/json would replace it without a word.
func loneSurrogate(text []byte) bool {
	half := func(i int) int { // 1 high, 2 low, 0 neither
		if i+6 > len(text) || text[i] != '\\' || text[i+1] != 'u' || text[i+2]|0x20 != 'd' {
			return 0
		}
		switch c := text[i+3] | 0x20; {
		case c == '8' || c == '9' || c == 'a' || c == 'b':
			return 1
		case c == 'c' || c == 'd' || c == 'e' || c == 'f':
			return 2
		}
		return 0
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		switch half(i) {
		case 1:
			if half(i+6) != 2 {
				return true
			}
			i += 11
		case 2:
			return true
		default:
			i++ // the escaped character
		}
	}
	return false
}

// lineCounter turns growing offsets into line numbers.
type lineCounter struct {
	content []byte
	offset  int64
	newline int
}

func (l *lineCounter) at(offset int64) int {
	if offset > l.offset {
		l.newline += bytes.Count(l.content[l.offset:offset], []byte("\n"))
		l.offset = offset
	}
	return l.newline + 1
}

// excerpt quotes the beginning of a text on one line.
func excerpt(b []byte) string {
	const most = 60
	r := []rune(string(b[:min(len(b), 4*most)]))
	if len(r) > most {
		return fmt.Sprintf("%q...", string(r[:most]))
	}
	return fmt.Sprintf("%q", string(r))
}
