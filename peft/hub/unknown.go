package hub

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/peft"
)

var _ peft.KeyReader = (*Method)(nil)

// fileKeys are the library's keys beside config.
var fileKeys = strings.Fields("config config_id hidden_size model_class model_name model_type name version")

// UnknownKeys implements peft.KeyReader: the keys that the library's configuration
// classes do not have either.
func (m *Method) UnknownKeys(config json.RawMessage) []peft.IgnoredKey {
	f, err := parse(config)
	if err != nil {
		return nil // told by Load
	}
	out := unknown(f.raw, "", fileKeys)
	for _, p := range f.parts {
		var known fields
		if json.Unmarshal([]byte(defaults[p.arch]), &known) != nil {
			continue
		}
		names := []string{"architecture"}
		for key := range known {
			names = append(names, key)
		}
		out = append(out, unknown(p.raw, "config.", names)...)
	}
	return out
}

func unknown(f fields, prefix string, known []string) []peft.IgnoredKey {
	var out []peft.IgnoredKey
	for key, v := range f {
		if peft.Says(v) && !slices.Contains(known, key) {
			out = append(out, peft.IgnoredKey{Key: prefix + key, Value: v, Unknown: true})
		}
	}
	return out
}
