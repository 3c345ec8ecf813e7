package data

import (
	"errors"
	"fmt"
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
	Line  int    // 1-based
	Found string // what is there
	Want  string // what should be there
	Err   error  // wraps ErrSyntax, ErrFields or ErrTemplate
}

// errNoTemplate is the cause when chats meet a model without a chat template.
var errNoTemplate = errors.New("chat template: the model has none; give one, or use data with prompt and completion, or text")

// templateError is an error of a template, which says so itself.
type templateError struct{ cause error }

func (e *templateError) Error() string   { return e.cause.Error() }
func (e *templateError) Unwrap() []error { return []error{ErrTemplate, e.cause} }

// Error returns "file:line: kind: found; expected want".
func (e *LineError) Error() string {
	s := fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
	if e.Found != "" {
		s += ": " + e.Found
	}
	if e.Want != "" {
		s += "; expected " + e.Want
	}
	return s
}

// Unwrap returns the kind.
func (e *LineError) Unwrap() error { return e.Err }

// LineErrors is what is wrong with a whole file: the first lines in full, and
// the number of all.
type LineErrors struct {
	First []*LineError
	Total int
}

const keptErrors = 10

func (e *LineErrors) add(l *LineError) {
	if e.Total++; len(e.First) < keptErrors {
		e.First = append(e.First, l)
	}
}

// Error lists the first lines.
func (e *LineErrors) Error() string {
	var b strings.Builder
	for i, l := range e.First {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l.Error())
	}
	if more := e.Total - len(e.First); more > 0 {
		fmt.Fprintf(&b, "\nand %d more lines like these", more)
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
