package jinja

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// formatFields is str.format: {} and {0} are arguments by their place, {name} by
// their name, and !r writes a value as Python does. Widths, precisions and attributes
// are refused.
func formatFields(s string, args []any, kwargs map[string]any) (any, error) {
	var b strings.Builder
	auto, manual := 0, false
	for s != "" {
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			at = len(s)
		}
		b.WriteString(s[:at])
		if s = s[at:]; s == "" {
			break
		}
		if len(s) > 1 && s[1] == s[0] {
			b.WriteByte(s[0])
			s = s[2:]
			continue
		}
		name, rest, closed := strings.Cut(s[1:], "}")
		if s[0] == '}' || !closed {
			return nil, errors.New("a single { or } in the format")
		}
		s = rest
		name, conversion, converts := strings.Cut(name, "!")
		if strings.ContainsAny(name, ":.[{") || converts && conversion != "r" && conversion != "s" {
			return nil, fmt.Errorf("the field {%s} is not supported", name)
		}
		v, named := kwargs[name]
		n, err := strconv.Atoi(name)
		switch {
		case name == "":
			n = auto
			auto++
		case err == nil:
			manual = true
		case !named:
			return nil, fmt.Errorf("no argument named %q", name)
		}
		if auto > 0 && manual {
			return nil, errors.New("{} and {0} in one format")
		}
		if name == "" || err == nil {
			if n < 0 || n >= len(args) {
				return nil, errors.New("not enough values for the format")
			}
			v = args[n]
		}
		if conversion == "r" {
			repr(&b, v, 0)
		} else {
			b.WriteString(str(v))
		}
		if b.Len() > maxOutput {
			return nil, errors.New("the text becomes too long")
		}
	}
	return b.String(), nil
}
