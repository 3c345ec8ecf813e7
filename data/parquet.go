package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquet adds the records of a Parquet file.
func (in *reading) parquet(path string, r io.ReaderAt, size int64) (err error) {
	bad := func(err error) error { return fmt.Errorf("%s: %w: Parquet: %w", path, ErrSyntax, err) }
	// The library checks what it reads in many places, not in all.
	defer func() {
		if p := recover(); p != nil {
			err = bad(fmt.Errorf("damaged: %v", p))
		}
	}()
	if err := checkFooter(r, size); err != nil {
		return bad(err)
	}
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return bad(err)
	}
	limit := unpackLimit(size)
	if err := checkSizes(f.Metadata(), size, limit); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrFormat, err)
	}
	root, err := parquetTree(f.Metadata().Schema)
	if err != nil {
		return bad(err)
	}
	a := &assembler{limit: limit}
	names := make([]string, len(root.children))
	for i, c := range root.children {
		names[i] = c.name
	}
	record := 0
	for _, g := range f.RowGroups() {
		err := eachRow(g, func(values parquet.Row) error {
			record++
			fields, err := a.record(root, values)
			if err != nil {
				return fmt.Errorf("record %d: %w", record, err)
			}
			in.rows = append(in.rows, row{line: record, fields: fields, file: path, columns: names})
			return nil
		})
		var large *sizeError
		if errors.As(err, &large) {
			return fmt.Errorf("%s: %w: %w", path, ErrFormat, tooLarge(size, limit))
		}
		if err != nil {
			return bad(err)
		}
	}
	return nil
}

// eachRow calls do with the rows of a group, whose memory is used again.
func eachRow(g parquet.RowGroup, do func(parquet.Row) error) (err error) {
	rows := g.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	buf := make([]parquet.Row, 64)
	for read := int64(0); ; {
		n, err := rows.ReadRows(buf)
		for _, values := range buf[:n] {
			if err := do(values); err != nil {
				return err
			}
		}
		read += int64(n)
		switch {
		case err == io.EOF && read < g.NumRows():
			return fmt.Errorf("%d records where %d are promised: %w", read, g.NumRows(), io.ErrUnexpectedEOF)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// checkFooter looks at both ends of a file before the library allocates what they
// say.
func checkFooter(r io.ReaderAt, size int64) error {
	const least = 12 // two magics and a length
	var head, tail [8]byte
	if size < least {
		return fmt.Errorf("%d bytes are too few: the file is incomplete", size)
	}
	if _, err := r.ReadAt(head[:4], 0); err != nil {
		return err
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	switch magic := string(tail[4:]); {
	case string(head[:4]) == "PARE" || magic == "PARE":
		return errors.New("the file is encrypted; write it without")
	case string(head[:4]) != "PAR1":
		what := impostor(head[:4])
		if what == "" {
			what = "it is no Parquet file"
		}
		return fmt.Errorf("it begins with %q: %s", head[:4], what)
	case magic != "PAR1":
		return errors.New("the end is missing: the file is incomplete")
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-least {
		return fmt.Errorf("metadata of %d bytes in a file of %d", n, size)
	}
	return nil
}

// checkSizes refuses a file that unpacks to more than the limit.
func checkSizes(m *format.FileMetaData, size, limit int64) error {
	var total int64
	for _, g := range m.RowGroups {
		for _, c := range g.Columns {
			n := c.MetaData.TotalUncompressedSize
			if n < 0 || n > limit-total {
				return tooLarge(size, limit)
			}
			total += n
		}
	}
	return nil
}

// parquetNode is a column, or a group of columns, of a Parquet file.
type parquetNode struct {
	name string
	// repeated and optional say how often it stands in its parent; repetition and
	// definition are its levels.
	repeated, optional     bool
	repetition, definition int
	children               []*parquetNode
	// leaf is the number of the first column below, convert reads the values of a leaf.
	leaf    int
	convert func(parquet.Value) any
	// list and dict mark the groups that stand for a list and for a dictionary.
	list, dict bool
}

// parquetTree builds the tree of a schema, which is written depth first.
func parquetTree(schema []format.SchemaElement) (*parquetNode, error) {
	leaves := 0
	rest := schema
	var build func(parent *parquetNode, depth int) (*parquetNode, error)
	build = func(parent *parquetNode, depth int) (*parquetNode, error) {
		const deepest = 100
		if len(rest) == 0 || depth > deepest {
			return nil, errors.New("the schema is damaged, or nested too deeply")
		}
		e := &rest[0]
		rest = rest[1:]
		n := &parquetNode{name: e.Name, leaf: leaves}
		if parent != nil {
			n.repetition, n.definition = parent.repetition, parent.definition
			n.repeated, n.optional = e.RepetitionType.V == format.Repeated, e.RepetitionType.V == format.Optional
			if n.repeated {
				n.repetition++
			}
			if n.repeated || n.optional {
				n.definition++
			}
		}
		if e.NumChildren.V == 0 {
			if parent == nil || !e.Type.Valid {
				return nil, errors.New("there are no columns")
			}
			leaves++
			n.convert = converter(e)
			return n, nil
		}
		for range e.NumChildren.V {
			c, err := build(n, depth+1)
			if err != nil {
				return nil, err
			}
			n.children = append(n.children, c)
		}
		n.markGroup(e)
		return n, nil
	}
	root, err := build(nil, 0)
	if err == nil && len(rest) > 0 {
		err = errors.New("the schema is damaged")
	}
	return root, err
}
