package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// withBasePrefix gives the modules of an adapter that was made on a bare base
// model (transformers' AutoModel: encoder.layer.0...) the paths that they have in
// the class with a head (bert.encoder.layer.0...), which peftkit uses for both.
// Adapters of models with a head are left as they are. paths are those of the
// model, of modules or of tensors.
func withBasePrefix(a *formats.Adapter, paths []string) error {
	base := ""
	for i, t := range a.Tensors {
		path, ok := strings.CutPrefix(t.Name, Prefix)
		if !ok {
			continue
		}
		if prefix := missingPrefix(path, paths); prefix != "" {
			u := *t
			u.Name = Prefix + prefix + path
			a.Tensors[i] = &u
			base = prefix
		}
	}
	if base == "" {
		return nil
	}
	config, err := prefixedConfig(a.Config, base)
	if err != nil {
		return fmt.Errorf("%s: adapter_config.json: %w: %w", a.Path, err, ErrConfig)
	}
	a.Config = config
	return nil
}

// missingPrefix returns what the path lacks to be one of paths ("bert."), "" when
// it lacks nothing or is not of the base model.
func missingPrefix(path string, paths []string) string {
	top, _, ok := strings.Cut(path, ".")
	if !ok {
		return ""
	}
	found := ""
	for _, p := range paths {
		first, rest, _ := strings.Cut(p, ".")
		if first == top {
			return ""
		}
		if strings.HasPrefix(rest, top+".") {
			found = first + "."
		}
	}
	return found
}

// prefixedConfig rewrites what names modules by more than their ends: a regular
// expression has to match a whole path, rank_pattern of AdaLoRA lists whole ones.
func prefixedConfig(raw json.RawMessage, prefix string) (json.RawMessage, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, err
	}
	quoted := strings.ReplaceAll(prefix, ".", `\.`)
	for _, key := range []string{"target_modules", "exclude_modules", "feedforward_modules"} {
		var t Targets
		if keys[key] == nil {
			continue
		}
		if err := json.Unmarshal(keys[key], &t); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if t.Regex == "" || t.IsAllLinear() {
			continue // the ends of names are the same
		}
		t.Regex = quoted + "(?:" + t.Regex + ")"
		b, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		keys[key] = b
	}
	for _, key := range []string{"rank_pattern", "alpha_pattern"} {
		renamed, err := renameKeys(keys[key], func(name string) string {
			switch {
			case strings.HasPrefix(name, "^"):
				return "^" + quoted + name[1:]
			case strings.Contains(name, ".lora_E"): // no pattern: AdaLoRA's
				return prefix + name
			}
			return name
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if renamed != nil {
			keys[key] = renamed
		}
	}
	return json.Marshal(keys)
}

// renameKeys renames the keys of an object and keeps their order, which decides
// which of two patterns holds; nil for what is no object.
func renameKeys(raw json.RawMessage, name func(string) string) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, nil
	}
	out := bytes.NewBufferString("{")
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		b, err := json.Marshal(name(key.(string)))
		if err != nil {
			return nil, err
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.Write(b)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
