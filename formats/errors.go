package formats

import (
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with a file. Every error that a reader or writer of this
// tree returns about a file is a [*FileError] that wraps one of these, so that
// a caller can tell them apart with errors.Is.
var (
	// ErrUnknownFormat: no registered format knows the file.
	ErrUnknownFormat = errors.New("unknown format")
	// ErrEmpty: the file or folder holds nothing.
	ErrEmpty = errors.New("empty")
	// ErrTruncated: the file ends before what its header promises.
	ErrTruncated = errors.New("incomplete file")
	// ErrHeader: the header breaks a rule of its format.
	ErrHeader = errors.New("malformed header")
	// ErrLimit: a count or length is larger than any sane file has.
	ErrLimit = errors.New("over the limit")
	// ErrOverflow: a size computed from the header does not fit into 63 bits.
	ErrOverflow = errors.New("size overflow")
	// ErrDuplicate: a key or tensor name appears twice.
	ErrDuplicate = errors.New("duplicate name")
	// ErrLayout: tensor data overlaps, has holes, or is not where it must be.
	ErrLayout = errors.New("bad data layout")
	// ErrShape: a shape does not fit the type or the number of bytes.
	ErrShape = errors.New("bad shape")
	// ErrType: a value or tensor is of a type that does not exist or does not fit.
	ErrType = errors.New("bad type")
	// ErrUnsupported: a valid file that peftkit cannot use.
	ErrUnsupported = errors.New("not supported")
	// ErrMissing: a file that belongs to the model or adapter is not there.
	ErrMissing = errors.New("missing file")
	// ErrMismatch: two parts of one model contradict each other.
	ErrMismatch = errors.New("parts disagree")
	// ErrLFSPointer: the file is a Git LFS pointer, not the data.
	ErrLFSPointer = errors.New("a Git LFS pointer instead of data")
	// ErrHTML: the file is a web page, not the data.
	ErrHTML = errors.New("a web page instead of data")
	// ErrPickle: the file is a Python pickle (torch.save).
	ErrPickle = errors.New("a Python pickle")
	// ErrIsAdapter: an adapter was given where a model is expected.
	ErrIsAdapter = errors.New("an adapter, not a model")
	// ErrIsModel: a model was given where an adapter is expected.
	ErrIsModel = errors.New("a model, not an adapter")
	// ErrOutput: the caller's model or adapter cannot be written in this format.
	ErrOutput = errors.New("cannot be written")
)

// FileError says what is wrong with a file, where, and what would work.
type FileError struct {
	File   string // path, or a name when the bytes came from elsewhere
	Tensor string // tensor or metadata key, "" when the error is about the file
	Offset int64  // byte position in File, 0 when there is none to name
	Found  string // what is there
	Want   string // what should be there
	Hint   string // what the user can do
	Err    error  // one of the Err variables of this package, or a cause
}

// Error returns one line: file, tensor, position, kind, found, wanted, hint.
func (e *FileError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Tensor != "" {
		fmt.Fprintf(&b, ": %q", e.Tensor)
	}
	if e.Offset > 0 {
		fmt.Fprintf(&b, " at byte %d", e.Offset)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Found != "" {
		fmt.Fprintf(&b, ": %s", e.Found)
	}
	if e.Want != "" {
		fmt.Fprintf(&b, "; expected %s", e.Want)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, ". %s", e.Hint)
	}
	return b.String()
}

// Unwrap returns the kind or cause.
func (e *FileError) Unwrap() error { return e.Err }
