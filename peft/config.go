package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// Prefix stands before the module path in the names of saved tensors.
const Prefix = "base_model.model."

// Config is adapter_config.json: the keys that methods have in common, and every
// key as it was read, so that nothing is lost on saving.
type Config struct {
	TargetModules  Targets         `json:"target_modules"`
	ExcludeModules Targets         `json:"exclude_modules"`
	ModulesToSave  OneOrMany       `json:"modules_to_save"`
	LayersPattern  OneOrMany       `json:"layers_pattern"`
	Layers         Ints            `json:"layers_to_transform"`
	Bias           string          `json:"bias"`
	TaskType       model.Task      `json:"task_type"`
	InferenceMode  json.RawMessage `json:"-"`

	raw map[string]json.RawMessage
}

// OneOrMany is a string or a list of strings.
type OneOrMany []string

// UnmarshalJSON accepts null, a string and a list of strings.
func (o *OneOrMany) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*o = nil
		if s != "" {
			*o = strings.Split(s, ",")
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// Ints is a number or a list of numbers; nil when absent.
type Ints []int

// UnmarshalJSON accepts null, a number and a list of numbers.
func (o *Ints) UnmarshalJSON(b []byte) error {
	var n int
	if string(b) == "null" {
		*o = nil
		return nil
	}
	if json.Unmarshal(b, &n) == nil {
		*o = Ints{n}
		return nil
	}
	list := []int{}
	err := json.Unmarshal(b, &list)
	*o = list
	return err
}

// ParseConfig reads adapter_config.json. Absent keys have PEFT's defaults; own
// keys of a method are read with Decode.
func ParseConfig(raw json.RawMessage) (*Config, error) {
	c := &Config{Bias: "none"}
	if err := json.Unmarshal(raw, &c.raw); err != nil {
		return nil, fmt.Errorf("adapter_config.json: %w: %w", err, ErrConfig)
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("adapter_config.json: %w: %w", err, ErrConfig)
	}
	return c, nil
}

// NewConfig makes the configuration of a fresh adapter from what a user set and
// the method's defaults, for a model: task_type, the base's path and the head of
// its task among modules_to_save.
func NewConfig(o Options, info Info, m *model.Model) (*Config, error) {
	merged, err := o.Resolve(info)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"target_modules", "exclude_modules"} {
		if v, ok := merged[key].(string); ok {
			merged[key] = ParseTargets(v)
		}
	}
	raw, err := json.Marshal(merged)
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return nil, err
	}
	c.Set("peft_type", info.PeftType)
	c.ForModel(m)
	return c, nil
}

// ForModel stores what a fresh adapter's configuration says about its model.
func (c *Config) ForModel(m *model.Model) {
	c.TaskType = m.Options.Task
	c.Set("task_type", nil)
	if c.TaskType != "" {
		c.Set("task_type", c.TaskType)
	}
	c.Set("base_model_name_or_path", m.Source.Path)
	for _, h := range m.HeadModules {
		if !c.Saves(h) {
			c.ModulesToSave = append(c.ModulesToSave, h)
		}
	}
	if len(c.ModulesToSave) > 0 {
		c.Set("modules_to_save", c.ModulesToSave)
	}
}

// Decode reads the method's own keys into dst, which holds the defaults.
func (c *Config) Decode(dst any) error {
	raw, err := json.Marshal(c.raw)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return fmt.Errorf("adapter_config.json: %w: %w", err, ErrConfig)
	}
	return nil
}

// Raw returns the value of a key as it was read, nil when it is absent or null.
func (c *Config) Raw(key string) json.RawMessage {
	v := bytes.TrimSpace(c.raw[key])
	if string(v) == "null" {
		return nil
	}
	return v
}

// Set stores a key to be saved. Values that JSON cannot hold panic: they are a
// mistake in the program.
func (c *Config) Set(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("peft: Config.Set " + key + ": " + err.Error())
	}
	c.raw[key] = b
}

// Remove takes a key off the list of those to be saved.
func (c *Config) Remove(key string) { delete(c.raw, key) }

// SetTargets stores the modules that were chosen, by name, where all-linear was
// asked for: PEFT then selects the same ones.
func (c *Config) SetTargets(t Targets) {
	c.TargetModules = t
	c.Set("target_modules", t)
}

// JSON returns adapter_config.json: every key that was read or set, the keys that
// PEFT always writes, sorted.
func (c *Config) JSON() (json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, key := range []string{"auto_mapping", "base_model_name_or_path", "modules_to_save", "revision", "task_type"} {
		out[key] = json.RawMessage("null")
	}
	maps.Copy(out, c.raw)
	out["inference_mode"] = json.RawMessage("true")
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// Saves reports whether modules_to_save names the module or a parent of it. PEFT
// compares the end of the whole path, letter by letter: "norm" also names every
// input_layernorm.
func (c *Config) Saves(path string) bool {
	for _, m := range c.ModulesToSave {
		for at := path; at != ""; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
			if strings.HasSuffix(at, m) {
				return true
			}
		}
	}
	return false
}

// Hits reports whether target_modules names a module, with exclude_modules and
// layers_to_transform applied. all-linear means every linear layer but the output
// embedding and the head of a task.
func (c *Config) Hits(mod *model.Module) (bool, error) {
	if !c.ExcludeModules.Empty() {
		if out, err := c.ExcludeModules.Match(mod.Path); err != nil || out {
			return false, err
		}
	}
	if c.TargetModules.IsAllLinear() {
		return mod.Linear != nil && !mod.Output && !mod.Head, nil
	}
	hit, err := c.TargetModules.Match(mod.Path)
	if err != nil || !hit {
		return false, err
	}
	return InLayers(mod.Path, c.TargetModules, c.Layers, c.LayersPattern)
}
