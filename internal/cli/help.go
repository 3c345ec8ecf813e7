package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// help prints what a command is for, examples that run, and its flags by group.
func (a *app) help(cmd *cobra.Command, _ []string) {
	s := a.out
	width := min(s.width(), 100)
	title := func(t string) { fmt.Fprintf(s, "\n%s\n", s.paint(bold, t)) }
	long := cmd.Long
	if long == "" {
		long = cmd.Short
	}
	for _, l := range wrap(reflow(long), width) {
		fmt.Fprintln(s, l)
	}
	title("Usage:")
	use := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		use = cmd.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(s, "  %s\n", strings.TrimSuffix(use, " [flags]"))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(s, "  also: %s\n", strings.Join(cmd.Aliases, ", "))
	}
	if cmd.Example != "" {
		title("Examples:")
		for _, l := range strings.Split(strings.TrimRight(cmd.Example, "\n"), "\n") {
			fmt.Fprintln(s, strings.TrimRight("  "+s.paint(cyan, l), " "))
		}
	}
	a.helpCommands(cmd, title)
	a.helpFlags(cmd, title, width)
	if !cmd.HasParent() {
		title("Exit codes:")
		for _, e := range exitDocs {
			fmt.Fprintf(s, "  %3d  %s\n", e.code, e.doc)
		}
		fmt.Fprintf(s, "\nEvery command explains itself: peftkit COMMAND --help\n")
	}
}

// reflow joins the lines of each paragraph; an empty line ends one.
func reflow(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.ReplaceAll(p, "\n", " ")
	}
	return strings.Join(paragraphs, "\n\n")
}

func (a *app) helpCommands(cmd *cobra.Command, title func(string)) {
	groups := append(cmd.Groups(), &cobra.Group{Title: "More:"})
	width := 0
	for _, c := range cmd.Commands() {
		width = max(width, len(c.Name()))
	}
	for _, g := range groups {
		first := true
		for _, c := range cmd.Commands() {
			if c.GroupID != g.ID || !c.IsAvailableCommand() {
				continue
			}
			if first {
				title(g.Title)
				first = false
			}
			fmt.Fprintf(a.out, "  %s  %s\n", pad(c.Name(), width), c.Short)
		}
	}
}

func (a *app) helpFlags(cmd *cobra.Command, title func(string), width int) {
	var groups []string
	byGroup := map[string][]*pflag.Flag{}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		g := "Flags"
		if v := f.Annotations[groupAnnotation]; len(v) > 0 && v[0] != "" {
			g = v[0]
		}
		if byGroup[g] == nil {
			groups = append(groups, g)
		}
		byGroup[g] = append(byGroup[g], f)
	})
	const column = 30
	for _, g := range groups {
		title(g + ":")
		for _, f := range byGroup[g] {
			kind, usage := pflag.UnquoteUsage(f)
			switch kind {
			case "int", "uint":
				kind = "N"
			case "float":
				kind = "X"
			}
			left := "      --" + f.Name
			if f.Shorthand != "" {
				left = "  -" + f.Shorthand + ", --" + f.Name
			}
			switch {
			case f.NoOptDefVal != "" && kind != "":
				left += "[=" + kind + "]"
			case kind != "":
				left += " " + kind
			}
			if d := f.DefValue; d != "" && d != "0" && d != "false" && d != "[]" && !strings.Contains(usage, "(default") {
				usage += fmt.Sprintf(" (default %s)", d)
			}
			lines := wrap(usage, max(30, width-column))
			if textLen(left) > column-2 {
				fmt.Fprintln(a.out, left)
				left = ""
			}
			for i, l := range lines {
				if i > 0 {
					left = ""
				}
				fmt.Fprintln(a.out, pad(left, column)+l)
			}
		}
	}
}
