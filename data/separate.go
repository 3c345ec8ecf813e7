package data

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// separators that a table may have, with their names, in the order in which they
// are tried.
var separators = []struct {
	char byte
	name string
}{{',', "commas"}, {';', "semicolons"}, {'\t', "tabs"}, {'|', "vertical bars"}}

// table adds the records of a .csv or .tsv file.
func (in *reading) table(file string, content []byte) {
	if bytes.IndexByte(content, '\n') < 0 {
		content = bytes.ReplaceAll(content, []byte("\r"), []byte("\n")) // lines of an old Mac
	}
	own := byte(',')
	if ext, _ := ending(file); ext == ".tsv" {
		own = '\t'
	}
	separator, c := own, (*cells)(nil)
	if rest, ok := bytes.CutPrefix(content, []byte("sep=")); ok && len(rest) > 1 && lineEnd(rest[1:]) > 0 { // Excel
		separator = rest[0]
		content = append([]byte("\n"), rest[1+lineEnd(rest[1:]):]...) // keeps the numbers of lines
		c = splitTable(content, separator)
	} else {
		c, separator = in.separate(content, own)
	}
	if separator != own {
		in.note("%s: the columns are separated by %s", file, separatorName(separator))
	}
	in.tableRows(file, c)
}

func separatorName(char byte) string {
	for _, s := range separators {
		if s.char == char {
			return s.name
		}
	}
	return strconv.Quote(string(char))
}

// separate splits a table by the separator that its type promises, or by another
// one when the first line has none of those and another divides it.
func (in *reading) separate(content []byte, own byte) (*cells, byte) {
	c := splitTable(content, own)
	if len(c.records) == 0 || len(c.records[0]) != 1 || len(in.names) == 1 {
		return c, own
	}
	best, separator := c, own
	for _, other := range separators {
		o := splitTable(content, other.char)
		if other.char == own || len(o.records) == 0 || len(o.records[0]) == 1 {
			continue
		}
		if o.width() > 1 {
			return o, other.char
		}
		// A header is divided by nothing else; a lone column may hold a text with
		// semicolons.
		if best == c && (c.width() != 1 || !slices.ContainsFunc(o.records[0], func(n string) bool { return n == "" || strings.Contains(n, " ") })) {
			best, separator = o, other.char
		}
	}
	return best, separator
}

// splitTable divides a table into cells. Whether quotes mean themselves is not
// written anywhere: programs write columns in quotes as a whole, or those fields
// that need them; in the text of lines that nobody quoted they stand anywhere.
func splitTable(content []byte, separator byte) *cells {
	strict := quotedCells(content, separator, true, false)
	if strict.bad != nil && bytes.Contains(content, []byte(`\"`)) {
		if escaped := quotedCells(content, separator, true, true); escaped.bad == nil && escaped.wholly() {
			return escaped
		}
	}
	if separator != '\t' {
		if strict.bad == nil {
			return strict
		}
		return quotedCells(content, separator, false, false)
	}
	plain := plainCells(content, separator)
	switch {
	case strict.bad != nil || strict.quoted == 0 || strict.width() == 0 && plain.width() > 0:
		return plain
	case plain.width() == 0:
		return strict
	case strict.spanning > 0: // both fit, and lines would be joined by chance
		return plain
	case strict.needed > 0 || strict.wholly():
		return strict
	}
	return plain
}

// tableRows adds the records of a table.
func (in *reading) tableRows(file string, c *cells) {
	names, records, lines := in.names, c.records, c.lines
	if names == nil && len(records) > 0 {
		names = slices.Clone(records[0])
		if c.bad == nil && c.rowNames() {
			names = append([]string{""}, names...)
			in.note("%s: the first column has no name, it holds the names of the rows and is not read", file)
		}
		if found := badHeader(names); found != "" {
			in.bad.add(&LineError{File: file, Line: lines[0], Found: found, Want: "a different name for each column", Err: ErrSyntax})
			return
		}
		records, lines, in.headers = records[1:], lines[1:], true
	}
	for i, values := range records {
		in.tableRow(file, lines[i], names, values)
	}
	if c.bad != nil { // what follows a broken quote cannot be trusted
		c.bad.File = file
		in.bad.add(c.bad)
	}
}

// badHeader says what is wrong with the names of columns.
func badHeader(names []string) string {
	for i, n := range names {
		if n != "" && slices.Contains(names[:i], n) {
			return fmt.Sprintf("the column %q twice", n)
		}
	}
	return ""
}

// tableRow adds one record of a table.
func (in *reading) tableRow(file string, line int, names, values []string) {
	for _, v := range values {
		if found := notText([]byte(v)); found != "" {
			in.bad.add(&LineError{File: file, Line: line, Found: found, Want: wantText, Err: ErrSyntax})
			return
		}
	}
	if len(values) != len(names) {
		in.bad.add(&LineError{File: file, Line: line, Found: count(len(values), "column"),
			Want: fmt.Sprintf("%d: %s", len(names), strings.Join(names, ", ")), Err: ErrSyntax})
		return
	}
	fields := make(map[string]any, len(names))
	for i, n := range names {
		if old, twice := fields[n]; !twice || old == "" {
			fields[n] = values[i]
		}
	}
	in.rows = append(in.rows, row{line: line, fields: fields, file: file, columns: names})
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
