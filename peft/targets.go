package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dlclark/regexp2"
)

// Targets is target_modules or exclude_modules of a PEFT configuration: a list
// of names, or a string that is a regular expression (or "all-linear").
type Targets struct {
	List  []string
	Regex string // "" when List is used
}

// AllLinear is the target_modules word for every linear layer but the head.
const AllLinear = "all-linear"

// UnmarshalJSON accepts null, a string or a list of strings.
func (t *Targets) UnmarshalJSON(b []byte) error {
	*t = Targets{}
	if string(b) == "null" {
		return nil
	}
	if json.Unmarshal(b, &t.Regex) == nil {
		return nil
	}
	if err := json.Unmarshal(b, &t.List); err != nil {
		return fmt.Errorf("expected a string, a list of strings or null, found %.40s", b)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (t Targets) MarshalJSON() ([]byte, error) {
	switch {
	case t.Regex != "":
		return json.Marshal(t.Regex)
	case t.List != nil:
		return json.Marshal(t.List)
	}
	return []byte("null"), nil
}

// Empty reports whether nothing was given.
func (t Targets) Empty() bool { return t.Regex == "" && len(t.List) == 0 }

// IsAllLinear reports whether the targets are the word all-linear, in any case.
func (t Targets) IsAllLinear() bool { return strings.EqualFold(t.Regex, AllLinear) }

// Match reports whether a module path is hit: a string must match the whole path
// as a Python regular expression; a list item must be the path or end it after a
// dot.
func (t Targets) Match(path string) (bool, error) {
	if t.Regex != "" {
		re, err := FullMatch(t.Regex)
		if err != nil {
			return false, err
		}
		return re.MatchString(path)
	}
	return slices.ContainsFunc(t.List, func(s string) bool { return Suffix(path, s) }), nil
}

// Suffix reports whether name is path or its last components.
func Suffix(path, name string) bool {
	return path == name || strings.HasSuffix(path, "."+name)
}

// FullMatch compiles a Python regular expression that must match a whole string
// (re.fullmatch).
func FullMatch(expr string) (*regexp2.Regexp, error) {
	re, err := regexp2.Compile(`\A(?:`+expr+`)\z`, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w: %w", expr, err, ErrConfig)
	}
	return re, nil
}

// PatternValue returns the value of the first key of a rank_pattern or
// alpha_pattern that fits the path: PEFT matches (.*\.)?(key)$ from the start.
func PatternValue(patterns []Pattern, path string) (float64, bool, error) {
	for _, p := range patterns {
		re, err := regexp2.Compile(`\A(?:(.*\.)?(`+p.Key+`)$)`, regexp2.None)
		if err != nil {
			return 0, false, fmt.Errorf("pattern %q: %w: %w", p.Key, err, ErrConfig)
		}
		if ok, err := re.MatchString(path); err != nil || ok {
			return p.Value, ok, err
		}
	}
	return 0, false, nil
}

// Pattern is one entry of rank_pattern or alpha_pattern, in file order, which
// decides when several fit.
type Pattern struct {
	Key   string
	Value float64
}

// Patterns reads {"pattern": number} keeping the order, which decides when
// several patterns fit. null and nothing are no patterns.
func Patterns(raw json.RawMessage) ([]Pattern, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, fmt.Errorf("expected an object of numbers, found %.40s", raw)
	}
	var out []Pattern
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var v float64
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("%v: %w", key, err)
		}
		out = append(out, Pattern{Key: key.(string), Value: v})
	}
	return out, nil
}

var layerIndex = regexp.MustCompile(`.*?\.[^.]*\.(\d+)\.`)

// InLayers applies layers_to_transform and layers_pattern to a path that a list
// of suffixes has hit; an exact name is not filtered. layers nil means all.
func InLayers(path string, t Targets, layers []int, patterns []string) (bool, error) {
	if layers == nil || t.Regex != "" || slices.Contains(t.List, path) {
		return true, nil
	}
	find := []*regexp.Regexp{layerIndex}
	if len(patterns) > 0 {
		find = nil
		for _, p := range patterns {
			re, err := regexp.Compile(`.*?\.` + p + `\.(\d+)\.`)
			if err != nil {
				return false, fmt.Errorf("layers_pattern %q: %w: %w", p, err, ErrConfig)
			}
			find = append(find, re)
		}
	}
	for _, re := range find {
		if m := re.FindStringSubmatchIndex(path); m != nil && m[0] == 0 {
			n, err := strconv.Atoi(path[m[2]:m[3]])
			return err == nil && slices.Contains(layers, n), nil
		}
	}
	return false, nil
}
