package data

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// cells are the records of a table.
type cells struct {
	records [][]string
	lines   []int
	// quotes says where quotes stood: quoted counts fields in quotes, needed those of
	// them that could not be written without, spanning those that hold a separator
	// or the end of a line. of counts the quoted fields of each column behind the
	// first record.
	quoted, needed, spanning int
	of                       []int
	// bad is where the table ends because a quote is wrong.
	bad *LineError
	// strict and escape are those of quotedCells.
	strict, escape bool
}

// width is the number of columns that every record has, 0 when they differ. R writes
// no name for the column of row names: there the header may be one short.
func (c *cells) width() int {
	if c.bad != nil || len(c.records) == 0 {
		return 0
	}
	n := len(c.records[0])
	if c.rowNames() {
		return n + 1
	}
	if slices.ContainsFunc(c.records, func(r []string) bool { return len(r) != n }) {
		return 0
	}
	return n
}

// rowNames reports a header that lacks a name for the first column of all records,
// which holds numbers in order or is in quotes as a whole, as R writes it.
func (c *cells) rowNames() bool {
	n, rows := len(c.records[0])+1, len(c.records)-1
	quoted := len(c.of) > 0 && c.of[0] == rows
	for i, r := range c.records[1:] {
		if len(r) != n || !quoted && r[0] != strconv.Itoa(i+1) {
			return false
		}
	}
	return rows > 0
}

// wholly reports whether quotes enclose columns as a whole, as a writer does that
// is told to quote all texts. The header may be quoted where its column is not.
func (c *cells) wholly() bool {
	if len(c.records) < 2 || c.quoted == 0 {
		return c.quoted > 0
	}
	rows := len(c.records) - 1
	return !slices.ContainsFunc(c.of, func(n int) bool { return n != 0 && n != rows })
}

// plainCells splits a table of lines in which quotes mean themselves.
func plainCells(content []byte, separator byte) *cells {
	c := &cells{}
	line := 0
	for text := range bytes.Lines(content) {
		line++
		if text = trimLineEnd(text); len(text) > 0 {
			c.records = append(c.records, strings.Split(string(text), string(separator)))
			c.lines = append(c.lines, line)
		}
	}
	return c
}

// quotedCells splits a table as RFC 4180 has it: a field that begins with a quote
// ends with the next one that is not doubled, and keeps what is between as it
// stands. A quote inside another field means itself, as in Python's csv module,
// unless strict, since a writer would have quoted that field.
//
// With escape a quote inside quotes is written \" instead of doubled, as R's
// write.table does; any other backslash means itself.
func quotedCells(content []byte, separator byte, strict, escape bool) *cells {
	c := &cells{strict: strict, escape: escape}
	line := 1
	for len(content) > 0 {
		if end := lineEnd(content); end > 0 { // a blank line
			content = content[end:]
			line++
			continue
		}
		start := line
		var record []string
		for more := true; more; {
			field, rest, lines, found := c.field(content, separator, len(record))
			if found != "" {
				c.bad = &LineError{Line: line, Found: found, Want: `fields quoted as in "a ""word"", quoted"`, Err: ErrSyntax}
				return c
			}
			record, line = append(record, field), line+lines
			if more = len(rest) > 0 && rest[0] == separator; more {
				rest = rest[1:]
			} else if end := lineEnd(rest); end > 0 {
				rest = rest[end:]
				line++
			}
			content = rest
		}
		c.records = append(c.records, record)
		c.lines = append(c.lines, start)
	}
	return c
}

// lineEnd is the length of the end of a line that b begins with.
func lineEnd(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

// field reads one field, of a column of the record. rest begins with what ends it,
// lines is how many ends of lines are in it.
func (c *cells) field(b []byte, separator byte, column int) (text string, rest []byte, lines int, found string) {
	if len(b) == 0 || b[0] != '"' {
		end := 0
		for end < len(b) && b[end] != separator && lineEnd(b[end:]) == 0 {
			end++
		}
		if c.strict && bytes.IndexByte(b[:end], '"') >= 0 {
			return "", nil, 0, "a quote inside a field without quotes"
		}
		if text = string(b[:end]); text == "" || text == "NA" {
			c.absent(column) // R quotes no NA
		}
		return text, b[end:], 0, ""
	}
	body, doubled := b[1:], false
	for at := 0; ; at++ {
		next := bytes.IndexByte(body[at:], '"')
		if next < 0 {
			return "", nil, 0, `a quote that is not closed (extraneous or missing " in quoted-field)`
		}
		at += next
		if c.escape && at > 0 && body[at-1] == '\\' {
			doubled = true
			continue
		}
		if !c.escape && at+1 < len(body) && body[at+1] == '"' {
			at, doubled = at+1, true
			continue
		}
		inside, rest := body[:at], body[at+1:]
		if len(rest) > 0 && rest[0] != separator && lineEnd(rest) == 0 {
			return "", nil, 0, `text behind a closing quote (extraneous or missing " in quoted-field): ` + excerpt(rest[:min(len(rest), 20)])
		}
		lines = bytes.Count(inside, []byte("\n"))
		spanning := lines > 0 || bytes.IndexByte(inside, separator) >= 0
		c.count(column, spanning, spanning || doubled || bytes.IndexByte(inside, '\r') >= 0)
		text = string(inside)
		if doubled {
			text = strings.ReplaceAll(text, c.innerQuote(), `"`)
		}
		return text, rest, lines, ""
	}
}

// innerQuote is how a quote is written inside quotes.
func (c *cells) innerQuote() string {
	if c.escape {
		return `\"`
	}
	return `""`
}

// count takes note of a field in quotes.
func (c *cells) count(column int, spanning, needed bool) {
	c.quoted++
	if needed {
		c.needed++
	}
	if spanning {
		c.spanning++
	}
	c.absent(column)
}

// absent takes note of a field that a writer of quoted columns may leave without.
func (c *cells) absent(column int) {
	if len(c.records) == 0 {
		return
	}
	for len(c.of) <= column {
		c.of = append(c.of, 0)
	}
	c.of[column]++
}
