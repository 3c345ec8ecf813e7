package data

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// row is one record as the file holds it: a JSON object, or a line of a table
// whose values are strings.
type row struct {
	line   int
	fields map[string]any
}

// readRows reads all records of a file. names are the columns of a table
// without a header. Lines that cannot be read are added to bad.
func readRows(file string, content []byte, names []string, bad *LineErrors) ([]row, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	switch strings.ToLower(filepath.Ext(file)) {
	case ".jsonl", ".ndjson", ".json":
		// The content decides: arrays are found under .jsonl and lines under .json.
		if t := bytes.TrimLeft(content, " \t\r\n"); len(t) > 0 && t[0] == '[' {
			return arrayRows(file, content, bad), nil
		}
		return jsonlRows(file, content, bad), nil
	case ".csv":
		return csvRows(file, content, names, bad), nil
	case ".tsv":
		return tsvRows(file, content, names, bad), nil
	}
	return nil, fmt.Errorf("%s: %w; expected .jsonl, .json, .csv or .tsv", file, ErrFormat)
}

func jsonlRows(file string, content []byte, bad *LineErrors) []row {
	var rows []row
	for line := 1; len(content) > 0; line++ {
		var text []byte
		text, content, _ = bytes.Cut(content, []byte("\n"))
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		fields, found := parseObject(text)
		if found != "" {
			bad.add(&LineError{File: file, Line: line, Found: found, Want: "one JSON object per line", Err: ErrSyntax})
			continue
		}
		rows = append(rows, row{line, fields})
	}
	return rows
}

// parseObject decodes one JSON object; found tells what is wrong with it.
func parseObject(text []byte) (fields map[string]any, found string) {
	if !utf8.Valid(text) {
		return nil, "bytes that are not UTF-8"
	}
	if loneSurrogate(text) {
		return nil, `half of a surrogate pair (a \ud... escape without its partner)`
	}
	fields, err := jsonFields(text)
	if err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, "a JSON " + wrong.Value + ", " + excerpt(text)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("unexpected end of JSON input")
		}
		return nil, strings.TrimPrefix(err.Error(), "json: ") + " in " + excerpt(text)
	}
	return fields, ""
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

// arrayRows reads a JSON array of objects.
func arrayRows(file string, content []byte, bad *LineErrors) []row {
	var rows []row
	d := json.NewDecoder(bytes.NewReader(content))
	lines := lineCounter{content: content}
	fail := func(err error) []row {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.ErrUnexpectedEOF
		}
		at := d.InputOffset() // behind the last good element
		at += int64(len(content[at:]) - len(bytes.TrimLeft(content[at:], ", \t\r\n")))
		bad.add(&LineError{File: file, Line: lines.at(at), Found: strings.TrimPrefix(err.Error(), "json: "), Want: "a JSON array of objects", Err: ErrSyntax})
		return rows
	}
	if _, err := d.Token(); err != nil { // [
		return fail(err)
	}
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fail(err)
		}
		line := lines.at(d.InputOffset() - int64(len(raw)))
		fields, found := parseObject(raw)
		if found != "" {
			bad.add(&LineError{File: file, Line: line, Found: found, Want: "a JSON object", Err: ErrSyntax})
			continue
		}
		rows = append(rows, row{line, fields})
	}
	if _, err := d.Token(); err != nil { // ]
		return fail(err)
	}
	if rest := bytes.TrimSpace(content[d.InputOffset():]); len(rest) > 0 {
		bad.add(&LineError{File: file, Line: lines.at(d.InputOffset()), Found: "more after the end of the array: " + excerpt(rest), Err: ErrSyntax})
	}
	return rows
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

// csvRows reads comma-separated values with RFC 4180 quoting.
func csvRows(file string, content []byte, names []string, bad *LineErrors) []row {
	var rows []row
	r := csv.NewReader(bytes.NewReader(content))
	r.FieldsPerRecord = -1
	for {
		values, err := r.Read()
		if err == io.EOF {
			return rows
		}
		if err != nil {
			var parse *csv.ParseError
			line := 0
			if errors.As(err, &parse) {
				line, err = parse.StartLine, parse.Err
			}
			bad.add(&LineError{File: file, Line: line, Found: err.Error(), Want: "comma-separated values quoted by RFC 4180", Err: ErrSyntax})
			return rows // what follows a broken quote cannot be trusted
		}
		line, _ := r.FieldPos(0)
		names, rows = addTableRow(file, line, values, names, rows, bad)
	}
}

// tsvRows reads tab-separated values. As the type is registered with IANA,
// quotes mean themselves and a record is a line.
func tsvRows(file string, content []byte, names []string, bad *LineErrors) []row {
	var rows []row
	for line := 1; len(content) > 0; line++ {
		var text []byte
		text, content, _ = bytes.Cut(content, []byte("\n"))
		text = bytes.TrimSuffix(text, []byte("\r"))
		if len(text) == 0 {
			continue
		}
		names, rows = addTableRow(file, line, strings.Split(string(text), "\t"), names, rows, bad)
	}
	return rows
}

// addTableRow takes the first line as names when there are none yet.
func addTableRow(file string, line int, values, names []string, rows []row, bad *LineErrors) ([]string, []row) {
	for _, v := range values {
		if !utf8.ValidString(v) {
			bad.add(&LineError{File: file, Line: line, Found: "bytes that are not UTF-8", Want: "UTF-8 text", Err: ErrSyntax})
			return names, rows
		}
	}
	if names == nil {
		return values, rows
	}
	if len(values) != len(names) {
		bad.add(&LineError{File: file, Line: line, Found: fmt.Sprintf("%d columns", len(values)),
			Want: fmt.Sprintf("%d: %s", len(names), strings.Join(names, ", ")), Err: ErrSyntax})
		return names, rows
	}
	fields := make(map[string]any, len(names))
	for i, n := range names {
		fields[n] = values[i]
	}
	return names, append(rows, row{line, fields})
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
