package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// json adds the records of a JSON file: an object on each line, an array, or an
// object that holds the list of records.
func (in *reading) json(file string, content []byte) error {
	t := bytes.TrimLeft(content, " \t\r\n")
	if len(t) == 0 {
		return nil
	}
	switch {
	case t[0] == '[':
		in.array(file, content, 0, len(content))
		return nil
	case t[0] == '{':
		if members, ok := loneObject(content); ok {
			return in.object(file, content, members)
		}
	}
	in.lines(file, content)
	return nil
}

// lines adds the object of each line.
func (in *reading) lines(file string, content []byte) {
	for line := 1; len(content) > 0; line++ {
		var text []byte
		text, content, _ = bytes.Cut(content, []byte("\n"))
		if text = bytes.TrimSpace(text); len(text) > 0 {
			in.record(file, line, text, "one JSON object per line")
		}
	}
}

// record adds one JSON object.
func (in *reading) record(file string, line int, text []byte, want string) {
	fields, bad := parseObject(text)
	if bad != nil {
		bad.File, bad.Line, bad.Want, bad.Err = file, line, want, ErrSyntax
		in.bad.add(bad)
		return
	}
	in.rows = append(in.rows, row{line: line, fields: fields, file: file})
}

// array adds the objects of the JSON array that begins at start; behind it, up
// to end, should come nothing.
func (in *reading) array(file string, content []byte, start, end int) {
	d := json.NewDecoder(bytes.NewReader(content[start:end]))
	lines := lineCounter{content: content}
	at := func() int64 { return int64(start) + d.InputOffset() }
	fail := func(err error) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		a := at() // behind the last good element
		a += int64(len(content[a:]) - len(bytes.TrimLeft(content[a:], ", \t\r\n")))
		in.bad.add(&LineError{File: file, Line: lines.at(a), Found: strings.TrimPrefix(err.Error(), "json: "), Want: "a JSON array of objects", Err: ErrSyntax})
	}
	if _, err := d.Token(); err != nil { // [
		fail(err)
		return
	}
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			fail(err)
			return
		}
		in.record(file, lines.at(at()-int64(len(raw))), raw, "a JSON object")
	}
	if _, err := d.Token(); err != nil { // ]
		fail(err)
		return
	}
	if rest := bytes.TrimSpace(content[at():end]); len(rest) > 0 {
		in.bad.add(&LineError{File: file, Line: lines.at(at()), Found: "more after the end of the array: " + excerpt(rest), Err: ErrSyntax})
	}
}

// member is one of a JSON object, its value content[start:end].
type member struct {
	key        string
	start, end int
}

// loneObject returns the members of the only JSON value of a file; ok is false
// when it is no object or there is more.
func loneObject(content []byte) (out []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(content))
	if _, err := d.Token(); err != nil { // {
		return nil, false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, false
		}
		end := int(d.InputOffset())
		out = append(out, member{key.(string), end - len(raw), end})
	}
	if _, err := d.Token(); err != nil { // }
		return nil, false
	}
	return out, len(bytes.TrimSpace(content[d.InputOffset():])) == 0
}

// listNames are the usual keys of the list of records, the likeliest first.
var listNames = []string{"data", "train", "rows", "examples", "instances", "records", "items", "samples", "validation", "valid", "dev", "test"}

// object takes the list of records out of a JSON object, or the object for the
// only record.
func (in *reading) object(file string, content []byte, members []member) error {
	whole := func() error {
		in.record(file, 1+bytes.Count(content[:bytes.IndexByte(content, '{')], []byte("\n")), bytes.TrimSpace(content), "a JSON object")
		return nil
	}
	var lists, rest []string
	at := map[string]member{}
	for _, m := range members {
		if isRecordList(m.key, content[m.start:m.end]) {
			lists = append(lists, m.key)
			at[m.key] = m
		} else {
			rest = append(rest, m.key)
		}
	}
	if len(lists) > 0 && in.isRecord != nil {
		if fields, bad := parseObject(bytes.TrimSpace(content)); bad == nil && in.isRecord(fields) {
			return whole()
		}
	}
	if len(lists) == 0 {
		if columnar(content) {
			return fmt.Errorf("%s: %w: it holds columns and not records, as DataFrame.to_json writes them; expected records: to_json(FILE, orient=\"records\", lines=True)", file, ErrFormat)
		}
		return whole()
	}
	key := lists[0]
	if len(lists) > 1 {
		wanted := append(slices.Clone(parts[in.part]), listNames...)
		i := slices.IndexFunc(wanted, func(name string) bool { return slices.Contains(lists, name) })
		if i < 0 {
			return fmt.Errorf("%s: %w: lists of objects: %s; expected one of them; write each into a file of its own", file, ErrFormat, strings.Join(lists, ", "))
		}
		key = wanted[i]
	}
	m := at[key]
	if nested(content[m.start:m.end]) {
		return fmt.Errorf("%s: %w: the nested layout of SQuAD (%s, paragraphs, qas); expected one record for each question, with the fields question and answer", file, ErrFormat, key)
	}
	for _, l := range lists {
		if l != key {
			rest = append(rest, l)
		}
	}
	if len(rest) > 0 {
		in.note("%s: the records are the list %q; not read: %s", file, key, strings.Join(rest, ", "))
	}
	in.array(file, content, m.start, m.end)
	return nil
}

// listFields are fields of a record that are lists of objects.
var listFields = []string{"messages", "conversations", "conversation", "tools", "functions", "documents", "history", "chosen", "rejected", "tool_calls"}

// isRecordList reports a list of objects that are records: not a field of a
// record, and not the messages of a chat.
func isRecordList(key string, raw []byte) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('[') || !d.More() {
		return false
	}
	var first map[string]json.RawMessage
	if slices.Contains(listFields, key) || d.Decode(&first) != nil || first == nil {
		return false
	}
	_, role := first["role"]
	_, from := first["from"]
	return !role && !from
}

// columnar reports an object of columns, each an object of values by the number
// of the record.
func columnar(content []byte) bool {
	var columns map[string]map[string]json.RawMessage
	if json.Unmarshal(content, &columns) != nil || len(columns) == 0 {
		return false
	}
	for _, c := range columns {
		if _, ok := c["0"]; !ok {
			return false
		}
	}
	return true
}

// nested reports SQuAD's articles.
func nested(list []byte) bool {
	d := json.NewDecoder(bytes.NewReader(list))
	if _, err := d.Token(); err != nil {
		return false
	}
	var first map[string]json.RawMessage
	if d.Decode(&first) != nil {
		return false
	}
	return slices.Contains(slices.Collect(maps.Keys(first)), "paragraphs")
}
