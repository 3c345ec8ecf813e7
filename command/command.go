// Package command is the peftkit program as a library, for builds with plug-ins
// of their own: import the plug-ins for their side effect and call [Main].
//
//	package main
//
//	import (
//		"github.com/peftkit/peftkit/command"
//		_ "github.com/peftkit/peftkit/plugins/standard"
//		_ "example.com/my/method"
//	)
//
//	func main() { command.Main() }
package command

import (
	"context"
	"io"
	"os"

	"github.com/peftkit/peftkit/internal/cli"
)

// Main runs the program with the arguments and streams of the process and exits.
// Ctrl-C and SIGTERM end the command in order (training writes a checkpoint), a
// second one at once.
func Main() { os.Exit(cli.Main()) }

// Execute runs one command line (without the program's name) and returns its
// exit code: 0 done, 1 another error, 2 wrong usage or configuration, 3 data
// that cannot be used, 4 a model or adapter that cannot be read or does not fit,
// 5 out of memory or disk, 130 interrupted by ctx.
func Execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Execute(ctx, args, nil, stdout, stderr)
}
