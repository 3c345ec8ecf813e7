package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/spell"
	"github.com/peftkit/peftkit/peft"
	"github.com/spf13/cobra"
)

// usageError is a command line that cannot be run as it stands.
type usageError struct {
	err error
	cmd *cobra.Command // nil when help would not help
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usage error.
func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// hintError carries what the user can do next, printed on its own line.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// withHint adds a next step to err.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// quietError was told already in words of its own.
type quietError struct{ error }

func (e *quietError) Unwrap() error { return e.error }

// printError shows what is wrong, what was found and expected, and what to do.
func (a *app) printError(err error) {
	s := a.err
	s.clearLine()
	var hint *hintError
	var usage *usageError
	var file *formats.FileError
	lines := errorLines(err)
	about := unknownWord(err)
	var unknown *spell.UnknownError
	if errors.As(err, &unknown) && explained(unknown) {
		lines[0] = strings.Replace(lines[0], oneLine(unknown.Error()), oneLine(fmt.Sprintf("unknown %s %q", unknown.Kind, unknown.Word)), 1)
	}
	msg := strings.Join(lines, "\n")
	var rows [][2]string
	// A file error is laid out over several lines when it is the end of the message.
	if errors.As(err, &file) && len(lines) == 1 && file.Err != nil && strings.HasSuffix(msg, once(oneLine(file.Error()))) {
		head := file.File
		if file.Tensor != "" {
			head += fmt.Sprintf(": %q", file.Tensor)
		}
		if file.Offset > 0 {
			head += fmt.Sprintf(" at byte %d", file.Offset)
		}
		msg = once(strings.TrimSuffix(msg, once(oneLine(file.Error()))) + oneLine(head+": "+file.Err.Error()))
		rows = append(rows, [2]string{"found", file.Found}, [2]string{"expected", file.Want}, [2]string{"try", file.Hint})
	}
	var path *fs.PathError
	if errors.As(err, &path) && strings.Contains(msg, oneLine(path.Error())) {
		msg = once(strings.Replace(msg, oneLine(path.Error()), oneLine(path.Path+": "+path.Err.Error()), 1))
	}
	for _, kind := range []error{convert.ErrOption, convert.ErrOutput, peft.ErrConfig} {
		msg = strings.TrimSuffix(msg, ": "+kind.Error()) // the exit code says as much
	}
	if errors.As(err, &hint) {
		rows = append(rows, [2]string{"try", hint.hint})
	} else if about != "" {
		rows = append(rows, [2]string{"try", about})
	}
	if errors.As(err, &usage) && usage.cmd != nil {
		rows = append(rows, [2]string{"help", usage.cmd.CommandPath() + " --help"})
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(s, s.paint(yellow, "interrupted"))
		return
	}
	indent := strings.Repeat(" ", len("error: "))
	for i, l := range wrap(msg, max(20, s.textWidth()-len(indent))) {
		if i == 0 {
			fmt.Fprintln(s, s.paint(red+bold, "error:")+" "+l)
		} else {
			fmt.Fprintln(s, indent+l)
		}
	}
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		for i, l := range wrap(oneLine(r[1]), max(20, s.textWidth()-12)) {
			label := ""
			if i == 0 {
				label = r[0]
			}
			fmt.Fprintf(s, "  %s %s\n", s.paint(dim, pad(label, 9)), l)
		}
	}
}

// warn prints a note that deserves attention and does not stop the command.
func (a *app) warn(format string, args ...any) {
	s := a.err
	s.clearLine()
	indent := strings.Repeat(" ", len("warning: "))
	for i, l := range wrap(oneLine(fmt.Sprintf(format, args...)), max(20, s.textWidth()-len(indent))) {
		if i == 0 {
			fmt.Fprintln(s, s.paint(yellow, "warning:")+" "+l)
		} else {
			fmt.Fprintln(s, indent+l)
		}
	}
}
