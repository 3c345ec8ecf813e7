package peft

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/internal/spell"
)

// Resolve returns the options under their keys in adapter_config.json, with the
// method's defaults for those that were not given. A word that is no option of
// the method, or one given twice under two names, is an error.
func (o Options) Resolve(info Info) (map[string]any, error) {
	out := map[string]any{}
	for _, opt := range info.Options {
		if opt.Default != nil {
			out[opt.Key] = opt.Default
		}
	}
	given := map[string]string{}
	for name, v := range o {
		i := slices.IndexFunc(info.Options, func(opt Option) bool { return opt.Key == name || opt.Flag == name })
		if i < 0 {
			return nil, unknownOption(name, info)
		}
		key := info.Options[i].Key
		if other, twice := given[key]; twice {
			return nil, fmt.Errorf("%q and %q are the same option: %w", other, name, ErrConfig)
		}
		given[key] = name
		if s, ok := v.(string); ok {
			v = parseValue(s)
		}
		out[key] = v
	}
	return out, nil
}

// unknownOption is the error of a word that is no option of the methods.
func unknownOption(name string, infos ...Info) error {
	var methods, known []string
	for _, info := range infos {
		methods = append(methods, info.Name)
		for _, o := range info.Options {
			known = append(known, o.Key)
			if o.Flag != "" {
				known = append(known, o.Flag)
			}
		}
	}
	_, key, named := strings.Cut(name, ".")
	if !named {
		key = name
	}
	return &spell.UnknownError{Kind: "option of " + strings.Join(methods, "+"), Word: name, Near: spell.Nearest(key, known), Known: known, Err: ErrConfig}
}

// parseValue reads a word from a command line: JSON where it is a number, a
// boolean, null, a list or an object, otherwise the text itself.
func parseValue(s string) any {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return json.Number(strconv.FormatInt(i, 10))
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		form := byte('g')
		if f == math.Trunc(f) && math.Abs(f) < 1<<53 { // 1e7 may be meant for a whole number
			form = 'f'
		}
		return json.Number(strconv.FormatFloat(f, form, -1, 64))
	}
	var v any
	if json.Unmarshal([]byte(s), &v) == nil {
		return v
	}
	return s
}

// ParseTargets reads target modules as written on a command line: all-linear,
// regex:EXPRESSION, or suffixes separated by commas.
func ParseTargets(s string) Targets {
	if expr, ok := strings.CutPrefix(s, "regex:"); ok {
		return Targets{Regex: expr}
	}
	if strings.EqualFold(s, AllLinear) {
		return Targets{Regex: AllLinear}
	}
	var list []string
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return Targets{List: list}
}
