package cli

import (
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"
)

// textLen is the number of columns a text takes, escape sequences not counted.
// Wide characters count as one: the tables hold names, numbers and types.
func textLen(s string) int {
	n, esc := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			esc = true
		case esc:
			esc = r != 'm'
		default:
			n++
		}
	}
	return n
}

// pad fills s with spaces on the right up to n columns.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-textLen(s))) }

// padLeft fills s with spaces on the left up to n columns.
func padLeft(s string, n int) string { return strings.Repeat(" ", max(0, n-textLen(s))) + s }

// shorten cuts s to n columns, with an ellipsis where something was cut.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:max(0, n-1)]) + "…"
}

// shortenMiddle cuts the middle of a path or name, whose ends tell most.
func shortenMiddle(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 5 {
		return s
	}
	head := (n - 1) / 3
	return string(r[:head]) + "…" + string(r[len(r)-(n-1-head):])
}

// wrap breaks text into lines of at most width columns at spaces; line ends of
// the text stay.
func wrap(text string, width int) []string {
	var out []string
	for _, para := range strings.Split(text, "\n") {
		line := ""
		for _, w := range strings.Split(para, " ") {
			switch {
			case line == "":
				line = w
			case textLen(line)+1+textLen(w) <= width:
				line += " " + w
			default:
				out = append(out, strings.TrimRight(line, " "))
				line = w
			}
		}
		out = append(out, line)
	}
	return out
}

// printJSON writes v as indented JSON and a line end.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printJSONLine writes v as one line.
func printJSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
