package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
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

// parseObject decodes one JSON object; found tells what is wrong with it.
func parseObject(text []byte) (fields map[string]any, found string) {
	if !utf8.Valid(text) {
		return nil, "bytes that are not UTF-8"
	}
	if loneSurrogate(text) {
		return nil, `half of a surrogate pair (a \ud... escape without its partner)`
	}
	if err := json.Unmarshal(text, &fields); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, "a JSON " + wrong.Value + ", " + excerpt(text)
		}
		return nil, strings.TrimPrefix(err.Error(), "json: ") + " in " + excerpt(text)
	}
	if fields == nil {
		return nil, "null"
	}
	return fields, ""
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
