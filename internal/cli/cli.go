package cli

import (
	"context"
	"errors"
	"io"
	"os"
)

// app is one run of the program: its streams and what it found out so far.
type app struct {
	in       io.Reader
	args     []string
	out, err *stream
	// started is set when a command's own code begins; an error before that is
	// one of usage.
	started bool
}

// Main runs the program with the arguments, streams and signals of the process
// and returns its exit code.
func Main() int {
	ctx, stop := withSignals(context.Background(), os.Stderr)
	defer stop()
	return Execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// Execute runs one command line and returns the exit code. Results go to
// stdout; progress, notes and errors go to stderr. Cancelling ctx ends the
// command as Ctrl-C does.
func Execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{in: stdin, args: args, out: newStream(stdout), err: newStream(stderr)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = a.out.failure()
		a.started = true
	}
	if err == nil {
		return exitOK
	}
	if !a.started {
		err = &usageError{err: err, cmd: cmd}
	}
	var quiet *quietError
	if !errors.As(err, &quiet) {
		a.printError(err)
	}
	return exitCode(ctx, err)
}
