package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// inputTexts returns the arguments, or the lines of standard input.
func (a *app) inputTexts(args []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	if a.in == nil || a.typed() {
		return nil, usagef("no text: give it as an argument, or lines on standard input")
	}
	var out []string
	s := bufio.NewScanner(a.in)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		if line := strings.TrimSuffix(s.Text(), "\r"); strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, withCode(exitData, fmt.Errorf("no text on standard input"))
	}
	return out, nil
}

// promptText returns -p, or standard input for "-" or when nothing was given
// and it is no terminal.
func (a *app) promptText(cmd *cobra.Command, p string) (string, error) {
	given := cmd.Flags().Changed("prompt")
	if p != "-" && given {
		return p, nil
	}
	if a.in == nil || !given && a.typed() {
		return "", needFlags(cmd, "prompt")
	}
	b, err := io.ReadAll(a.in)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// typed reports whether standard input is a terminal: nothing was piped in.
func (a *app) typed() bool {
	f, ok := a.in.(*os.File)
	return ok && isTerminal(f)
}

func isTerminal(f *os.File) bool {
	_, ok := terminalWidth(f.Fd())
	return ok
}
