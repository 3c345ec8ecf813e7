package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/peftkit/peftkit/data"
)

// mostJSON is how much of a JSON value an error shows.
const mostJSON = 160

// errorLines are the lines of an error: one, or one for each of several joined
// errors. What came from a file or a command line never begins a line of its own.
func errorLines(err error) []string {
	lines := strings.Split(joined(err), "\x00")
	for i, l := range lines {
		lines[i] = once(oneLine(l))
	}
	return lines
}

// joined is the text of an error in which the ends of lines that separate joined
// errors are zero bytes.
func joined(err error) string {
	text := strings.ReplaceAll(err.Error(), "\x00", `\x00`)
	inner := func(e error) {
		if old := e.Error(); strings.Contains(old, "\n") {
			text = strings.Replace(text, old, joined(e), 1)
		}
	}
	switch x := err.(type) {
	case interface{ Unwrap() []error }:
		for _, e := range x.Unwrap() {
			inner(e)
		}
		if _, lines := err.(*data.LineErrors); lines || fmt.Sprintf("%T", err) == "*errors.joinError" {
			text = strings.ReplaceAll(text, "\n", "\x00")
		}
	case interface{ Unwrap() error }:
		if e := x.Unwrap(); e != nil {
			inner(e)
		}
	}
	return text
}

// spread is JSON that was written over several lines.
var spread = regexp.MustCompile(`(?s)[{\[][^\n]*\n.*[}\]]`)

// oneLine writes a text on one line: JSON compactly and clipped, other control
// characters as a Go string has them.
func oneLine(s string) string {
	if strings.Contains(s, "\n") {
		s = spread.ReplaceAllStringFunc(s, func(v string) string {
			var b bytes.Buffer
			if json.Compact(&b, []byte(v)) != nil {
				return v
			}
			return shorten(b.String(), mostJSON)
		})
	}
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports a character that moves the cursor or changes how a line reads.
func hidden(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}

// once leaves out what is said twice in a row, as a path before an error that
// begins with the path of a file in that folder.
func once(s string) string {
	var out []string
	parts := strings.Split(s, ": ")
	for i, p := range parts {
		if i+1 < len(parts) && p != "" {
			inside := strings.HasPrefix(parts[i+1], strings.TrimRight(p, `/\`)+string(filepath.Separator))
			if parts[i+1] == p || inside {
				continue
			}
		}
		out = append(out, p)
	}
	return strings.Join(out, ": ")
}
