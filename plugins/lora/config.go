package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/peft"
)

// config is LoraConfig of Hugging Face PEFT: the keys that change what is
// computed, and all keys as they were read, so that nothing is lost on saving.
type config struct {
	R              int             `json:"r"`
	Alpha          float64         `json:"lora_alpha"`
	Dropout        float64         `json:"lora_dropout"`
	Bias           string          `json:"bias"`
	UseRSLoRA      bool            `json:"use_rslora"`
	TargetModules  peft.Targets    `json:"target_modules"`
	ExcludeModules peft.Targets    `json:"exclude_modules"`
	ModulesToSave  []string        `json:"modules_to_save"`
	LayersPattern  oneOrMany       `json:"layers_pattern"`
	Layers         json.RawMessage `json:"layers_to_transform"`
	RankPattern    json.RawMessage `json:"rank_pattern"`
	AlphaPattern   json.RawMessage `json:"alpha_pattern"`
	Init           json.RawMessage `json:"init_lora_weights"`

	raw           map[string]json.RawMessage
	layers        []int
	ranks, alphas []peft.Pattern
	initKind      string // "true", "gaussian", "false"
}

// oneOrMany is a string or a list of strings.
type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*o = nil
		if s != "" {
			*o = oneOrMany{s}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// must lists keys of PEFT's LoraConfig that this build carries but does not
// compute: any other value than these is refused, never ignored.
var must = map[string][]string{
	"use_dora":                {"false", "null"},
	"lora_bias":               {"false", "null"},
	"layer_replication":       {"null"},
	"trainable_token_indices": {"null"},
	"target_parameters":       {"null", "[]"},
	"alora_invocation_tokens": {"null"},
	"use_qalora":              {"false", "null"},
	"arrow_config":            {"null"},
	"kasa_config":             {"null"},
	"use_bdlora":              {"false", "null"},
	"monteclora_config":       {"null"},
}

// parse reads adapter_config.json with PEFT's defaults for absent keys.
func parse(raw json.RawMessage) (*config, error) {
	c := &config{R: 8, Alpha: 8, Bias: "none"}
	if err := json.Unmarshal(raw, &c.raw); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, err
	}
	return c, c.check()
}

func (c *config) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, peft.ErrConfig)...)
	}
	for _, key := range slices.Sorted(maps.Keys(must)) {
		if v, ok := c.raw[key]; ok && !slices.Contains(must[key], string(bytes.TrimSpace(v))) {
			return bad("%s is %.60s, which this peftkit does not compute; without it the numbers would be wrong", key, v)
		}
	}
	switch {
	case c.R < 1 || c.R > 1<<16:
		return bad("r is %d, expected 1 to %d", c.R, 1<<16)
	case c.Dropout < 0 || c.Dropout >= 1:
		return bad("lora_dropout is %g, expected at least 0 and below 1", c.Dropout)
	case c.Bias != "none" && c.Bias != "all" && c.Bias != "lora_only":
		return bad("bias is %q, expected none, all or lora_only", c.Bias)
	}
	var err error
	if c.ranks, err = patterns(c.RankPattern); err != nil {
		return bad("rank_pattern: %w", err)
	}
	if c.alphas, err = patterns(c.AlphaPattern); err != nil {
		return bad("alpha_pattern: %w", err)
	}
	if c.layers, err = intOrList(c.Layers); err != nil {
		return bad("layers_to_transform: %w", err)
	}
	return c.checkInit(bad)
}

func (c *config) checkInit(bad func(string, ...any) error) error {
	switch v := strings.Trim(strings.ToLower(string(bytes.TrimSpace(c.Init))), `"`); v {
	case "", "null", "true":
		c.initKind = "true"
	case "gaussian", "false":
		c.initKind = v
	case "eva", "loftq", "orthogonal", "mica":
		// They choose the first values of A and B alone; a saved adapter stands on its own.
		c.initKind = v
	default:
		return bad("init_lora_weights is %s: such an adapter belongs to a base model that its initialisation has changed; save it in PEFT with path_initial_model_for_weight_conversion and use that", c.Init)
	}
	return nil
}

// patterns reads {"pattern": number} keeping the order, which decides when
// several patterns fit.
func patterns(raw json.RawMessage) ([]peft.Pattern, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, fmt.Errorf("expected an object of numbers, found %.40s", raw)
	}
	var out []peft.Pattern
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var v float64
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("%v: %w", key, err)
		}
		out = append(out, peft.Pattern{Key: key.(string), Value: v})
	}
	return out, nil
}

func intOrList(raw json.RawMessage) ([]int, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var one int
	if json.Unmarshal(raw, &one) == nil {
		return []int{one}, nil
	}
	list := []int{}
	return list, json.Unmarshal(raw, &list)
}

// fromOptions builds the configuration of a new adapter from what a user set.
func fromOptions(o peft.Options, info peft.Info) (*config, error) {
	merged, err := o.Resolve(info)
	if err != nil {
		return nil, err
	}
	if v, ok := merged["target_modules"].(string); ok {
		merged["target_modules"] = peft.ParseTargets(v)
	}
	if v, ok := merged["exclude_modules"].(string); ok {
		merged["exclude_modules"] = peft.ParseTargets(v)
	}
	if v, ok := merged["modules_to_save"].(string); ok {
		merged["modules_to_save"] = strings.Split(v, ",")
	}
	if v, ok := merged["layers_pattern"].(string); ok {
		merged["layers_pattern"] = strings.Split(v, ",")
	}
	raw, err := json.Marshal(merged)
	if err != nil {
		return nil, err
	}
	c, err := parse(raw)
	if err != nil {
		return nil, err
	}
	switch c.initKind {
	case "true", "gaussian", "false":
	default:
		return nil, fmt.Errorf("init_lora_weights %q: this peftkit starts LoRA with true, gaussian or false: %w", c.initKind, peft.ErrConfig)
	}
	return c, nil
}

// set stores one more key to be saved.
func (c *config) set(key string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		c.raw[key] = b
	}
}

// json returns adapter_config.json: every key that was read, those that PEFT
// writes, and the fixed values of a saved adapter.
func (c *config) json() (json.RawMessage, error) {
	out := map[string]json.RawMessage{
		"alpha_pattern": json.RawMessage("{}"), "auto_mapping": json.RawMessage("null"),
		"base_model_name_or_path": json.RawMessage("null"), "fan_in_fan_out": json.RawMessage("false"),
		"init_lora_weights": json.RawMessage("true"), "layers_pattern": json.RawMessage("null"),
		"layers_to_transform": json.RawMessage("null"), "rank_pattern": json.RawMessage("{}"),
		"revision": json.RawMessage("null"), "task_type": json.RawMessage(`"CAUSAL_LM"`),
		"use_dora": json.RawMessage("false"), "modules_to_save": json.RawMessage("null"),
	}
	maps.Copy(out, c.raw)
	for key, v := range map[string]any{
		"peft_type": "LORA", "inference_mode": true, "r": c.R, "lora_alpha": c.Alpha, "lora_dropout": c.Dropout,
		"bias": c.Bias, "use_rslora": c.UseRSLoRA, "target_modules": c.TargetModules,
	} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out[key] = b
	}
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// rankAlpha returns rank and alpha of a module.
func (c *config) rankAlpha(path string) (r int, alpha float64, err error) {
	r, alpha = c.R, c.Alpha
	if v, ok, err := peft.PatternValue(c.ranks, path); err != nil {
		return 0, 0, err
	} else if ok {
		if r = int(v); float64(r) != v || r < 1 || r > 1<<16 {
			return 0, 0, fmt.Errorf("rank_pattern: rank %g for %s, expected a whole number from 1: %w", v, path, peft.ErrConfig)
		}
	}
	if v, ok, err := peft.PatternValue(c.alphas, path); err != nil {
		return 0, 0, err
	} else if ok {
		alpha = v
	}
	return r, alpha, nil
}

// saves reports whether modules_to_save names the module or a parent of it. PEFT
// compares the end of the whole path, letter by letter: "norm" also names every
// input_layernorm.
func (c *config) saves(path string) bool {
	for _, m := range c.ModulesToSave {
		for at := path; at != ""; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
			if strings.HasSuffix(at, m) {
				return true
			}
		}
	}
	return false
}

// targets reports whether a module is adapted. kind is linear, embedding or norm.
func (c *config) targets(path, kind string, output bool) (bool, error) {
	if !c.ExcludeModules.Empty() {
		if out, err := c.ExcludeModules.Match(path); err != nil || out {
			return false, err
		}
	}
	if c.TargetModules.Empty() {
		// PEFT's default for llama, mistral, qwen, gemma.
		return peft.Suffix(path, "q_proj") || peft.Suffix(path, "v_proj"), nil
	}
	if c.TargetModules.IsAllLinear() {
		return kind == "linear" && !output, nil
	}
	hit, err := c.TargetModules.Match(path)
	if err != nil || !hit {
		return false, err
	}
	return peft.InLayers(path, c.TargetModules, c.layers, c.LayersPattern)
}
