package data

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What can be wrong with a data set; the errors of this package wrap these.
var (
	// ErrSyntax: a line is not valid JSON, CSV or UTF-8.
	ErrSyntax = errors.New("cannot be read")
	// ErrFields: a record lacks fields or holds values of another type.
	ErrFields = errors.New("wrong fields")
	// ErrFormat: the file is of a type that is not read.
	ErrFormat = errors.New("unknown data format")
	// ErrEmpty: there is no record, or none with a token to train.
	ErrEmpty = errors.New("nothing to train on")
	// ErrTemplate: the model's chat template is missing or refuses a record.
	ErrTemplate = errors.New("chat template")
)

// LineError says what is wrong with one line of a file.
type LineError struct {
	File  string
	Line  int    // 1-based; of a Parquet file, the number of the record
	Found string // what is there
	Text  string // the text in which it is, "" when Found says it all
	Want  string // what should be there
	Err   error  // wraps ErrSyntax, ErrFields or ErrTemplate
}

// errNoTemplate is the cause when chats meet a model without a chat template.
var errNoTemplate = errors.New("chat template: the model has none; give one, or use data with prompt and completion, or text")

// templateError is an error of a template, which says so itself.
type templateError struct{ cause error }

func (e *templateError) Error() string   { return e.cause.Error() }
func (e *templateError) Unwrap() []error { return []error{ErrTemplate, e.cause} }

// Error returns "file:line: kind: found in text; expected want".
func (e *LineError) Error() string {
	s := fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
	if e.Found != "" {
		s += ": " + e.Found
	}
	if e.Text != "" {
		s += " in " + e.Text
	}
	if e.Want != "" {
		s += "; expected " + e.Want
	}
	return s
}

// Unwrap returns the kind.
func (e *LineError) Unwrap() error { return e.Err }

// LineErrors is what is wrong with a whole data set, one error for each kind.
type LineErrors struct {
	First []*LineError // the first line of each kind, of ten kinds at most
	Total int          // lines

	kinds map[string]*errorKind
	order []*errorKind // as First
}

// errorKind are the lines that have the same fault.
type errorKind struct {
	total int
	lines []int // the first ones, in the file of the first
	file  string
}

const (
	keptErrors = 10
	keptLines  = 5
)

func (e *LineErrors) add(l *LineError) {
	e.Total++
	if e.kinds == nil {
		e.kinds = map[string]*errorKind{}
	}
	key := l.kind()
	k := e.kinds[key]
	if k == nil {
		k = &errorKind{file: l.File}
		e.kinds[key] = k
		if len(e.First) < keptErrors {
			e.First, e.order = append(e.First, l), append(e.order, k)
		}
	}
	k.total++
	if len(k.lines) < keptLines && k.file == l.File {
		k.lines = append(k.lines, l.Line)
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// kind is the same for lines that are wrong in the same way: the number of a
// message or of columns makes no difference, nor what else a record holds that
// lacks a field.
func (e *LineError) kind() string {
	found := e.Found
	if _, lacks, ok := strings.Cut(found, lacking); ok {
		found = lacks
	}
	if e.Err != nil && found == "" {
		found = e.Err.Error()
	}
	want, _, _ := strings.Cut(e.Want, " as in line ")
	return digits.ReplaceAllString(strings.Join([]string{found, want, fmt.Sprintf("%T", e.Err)}, "\x00"), "0")
}

// lacking stands before the name of a field that a record lacks.
const lacking = ", no "

// Error lists the kinds, with the first lines of each.
func (e *LineErrors) Error() string {
	var b strings.Builder
	rest := e.Total
	for i, l := range e.First {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l.Error())
		k := e.order[i]
		rest -= k.total
		if k.total > 1 {
			fmt.Fprintf(&b, " (%d lines: %s)", k.total, k.lineList())
		}
	}
	if rest > 0 {
		fmt.Fprintf(&b, "\nand %s with other faults", count(rest, "line"))
	}
	return b.String()
}

func (k *errorKind) lineList() string {
	var b strings.Builder
	for i, l := range k.lines {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, l)
	}
	if k.total > len(k.lines) {
		b.WriteString(", ...")
	}
	return b.String()
}

// Unwrap returns the errors of the first lines.
func (e *LineErrors) Unwrap() []error {
	out := make([]error, len(e.First))
	for i, l := range e.First {
		out[i] = l
	}
	return out
}

// orNil returns e as an error, nil when nothing was added.
func (e *LineErrors) orNil() error {
	if e.Total == 0 {
		return nil
	}
	return e
}
