package cli

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/peftkit/peftkit/compare"
	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

// Exit codes. They are part of the interface: scripts depend on them.
const (
	exitOK          = 0
	exitOther       = 1
	exitUsage       = 2   // wrong flags, arguments or configuration, a method that does not fit
	exitData        = 3   // training or evaluation data cannot be used
	exitFormat      = 4   // a model or adapter cannot be read, or does not fit
	exitResources   = 5   // out of memory or disk
	exitInterrupted = 130 // Ctrl-C or SIGTERM; a checkpoint was written if there was one to write
)

var exitDocs = []struct {
	code int
	doc  string
}{
	{exitOK, "done"},
	{exitOther, "another error"},
	{exitUsage, "wrong flags, configuration or paths; a method that does not fit"},
	{exitData, "the data cannot be used"},
	{exitFormat, "a model or adapter cannot be read or does not fit"},
	{exitResources, "out of memory or disk space"},
	{exitInterrupted, "interrupted; training wrote a checkpoint"},
}

// codedError gives an error a fixed exit code.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// withCode marks err, if it is one, with an exit code.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{err, code}
}

var exitKinds = []struct {
	code int
	errs []error
}{
	{exitData, []error{data.ErrSyntax, data.ErrFields, data.ErrFormat, data.ErrEmpty, data.ErrTemplate, generate.ErrNoAnswers}},
	{exitUsage, []error{
		compare.ErrPlan,
		peft.ErrConfig, peft.ErrNoFit, train.ErrConfig, convert.ErrOption, convert.ErrOutput, convert.ErrBase, generate.ErrOptions, generate.ErrPrompt,
		fs.ErrNotExist, formats.ErrIsAdapter, formats.ErrIsModel, atomicfile.ErrSource, atomicfile.ErrNotEmpty,
	}},
	{exitFormat, []error{
		model.ErrUnsupported, model.ErrMismatch, peft.ErrNoMatch, peft.ErrTensors, peft.ErrNotMergeable, peft.ErrNotFinite,
		formats.ErrUnknownFormat, formats.ErrEmpty, formats.ErrTruncated, formats.ErrHeader, formats.ErrLimit,
		formats.ErrOverflow, formats.ErrDuplicate, formats.ErrLayout, formats.ErrShape, formats.ErrType,
		formats.ErrUnsupported, formats.ErrMissing, formats.ErrMismatch, formats.ErrLFSPointer, formats.ErrHTML,
		tensor.ErrNoDecoder, formats.ErrPickle, formats.ErrOutput, convert.ErrRange, convert.ErrNotFinite, train.ErrCheckpoint, train.ErrDrift,
	}},
}

// exitCode chooses the code of an error.
func exitCode(ctx context.Context, err error) int {
	var coded *codedError
	var usage *usageError
	var line *data.LineError
	var unsupported *tokenizer.UnsupportedError
	var file *formats.FileError
	var busy *atomicfile.BusyError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) || ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return exitInterrupted
	case outOfResources(err):
		return exitResources
	case errors.As(err, &usage), errors.As(err, &busy):
		return exitUsage
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &line):
		return exitData
	}
	for _, k := range exitKinds {
		for _, kind := range k.errs {
			if errors.Is(err, kind) {
				return k.code
			}
		}
	}
	if errors.As(err, &unsupported) || errors.As(err, &file) {
		return exitFormat
	}
	if unusable(err) {
		return exitUsage
	}
	return exitOther
}

// unusable reports a path that the system does not let a command use as it wants
// to: no folder, a folder, read-only, forbidden, with a name that is too long.
func unusable(err error) bool {
	var path *fs.PathError
	if !errors.As(err, &path) {
		return false
	}
	var system syscall.Errno
	if !errors.As(path.Err, &system) {
		return path.Op == "create" || path.Op == "write" // said by atomicfile
	}
	for _, e := range []syscall.Errno{syscall.ENOTDIR, syscall.EISDIR, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EEXIST, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EINVAL} {
		if system == e {
			return true
		}
	}
	return false
}

// ofAdapter gives a wrong configuration the code of the file that it stands in.
func ofAdapter(err error) error {
	if errors.Is(err, peft.ErrConfig) && !errors.Is(err, convert.ErrOption) {
		return withCode(exitFormat, err)
	}
	return err
}
