package cli

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/peftkit/peftkit/internal/demo"
	"github.com/peftkit/peftkit/train"
	"github.com/spf13/cobra"
)

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", GroupID: groupTry,
		Short: "See the whole story in two minutes, without files or network",
		Long: "See the whole story without files or network: a small model that peftkit carries\n" +
			"with it learns by LoRA, answers passages it has not seen before and after, is merged\n" +
			"and written as GGUF, and the merged file is checked against model and adapter.",
		Example: "peftkit demo\npeftkit demo --dir demo",
		Args:    noArgs,
	}
	f := flagsOf(cmd)
	var o demo.Options
	dir := f.text("dir", "", "DIR", "", "folder for the files (default: a temporary one, which stays)")
	threads := threadsFlag(f)
	asJSON := f.Bool("json", false, "print the result as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := threads(); err != nil {
			return err
		}
		to := a.out
		if *asJSON {
			to = a.err
		}
		out := &wrapWriter{s: to}
		o.Dir, o.Width = *dir, min(a.out.width(), 100)
		o.Progress = func(s *train.Step) {
			share := float64(s.Step) / float64(s.Total)
			a.err.setLine(fmt.Sprintf("  %s %3.0f %%  step %d/%d  loss %s  ETA %s", a.err.bar(share, 24), 100*share, s.Step, s.Total, lossText(s.Loss), durationText(s.ETA)))
			if s.Step == s.Total {
				a.err.clearLine()
			}
		}
		r, err := demo.Run(cmd.Context(), out, o)
		a.err.clearLine()
		out.flush()
		if err != nil || !*asJSON {
			return err
		}
		return printJSON(a.out, r)
	}
	return cmd
}

// wrapWriter breaks lines that are too long for a terminal between words, and
// sets what follows below the text that stands after a label.
type wrapWriter struct {
	s    *stream
	rest []byte
}

// Write implements io.Writer.
func (w *wrapWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if err := w.line(string(w.rest[:i])); err != nil {
			return 0, err
		}
		w.rest = w.rest[i+1:]
	}
}

var labelled = regexp.MustCompile(`^( *\S+ {2,}| +)`)

func (w *wrapWriter) line(text string) error {
	indent := labelled.FindString(text)
	for i, l := range wrap(text[len(indent):], max(20, w.s.textWidth()-len(indent))) {
		if i > 0 {
			indent = strings.Repeat(" ", len(indent))
		}
		if _, err := fmt.Fprintln(w.s, strings.TrimRight(indent+l, " ")); err != nil {
			return err
		}
	}
	return nil
}

// flush writes a last line without an end.
func (w *wrapWriter) flush() {
	if len(w.rest) > 0 {
		_ = w.line(string(w.rest)) // the text is at its end
		w.rest = nil
	}
}
