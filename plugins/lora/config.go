package lora

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/peft"
)

// config is LoraConfig of Hugging Face PEFT: the keys that change what is
// computed.
type config struct {
	R            int             `json:"r"`
	Alpha        float64         `json:"lora_alpha"`
	Dropout      float64         `json:"lora_dropout"`
	UseRSLoRA    bool            `json:"use_rslora"`
	RankPattern  json.RawMessage `json:"rank_pattern"`
	AlphaPattern json.RawMessage `json:"alpha_pattern"`
	Init         json.RawMessage `json:"init_lora_weights"`

	common        *peft.Config
	ranks, alphas []peft.Pattern
	initKind      string // "true", "gaussian", "false"
}

// must lists keys of PEFT's LoraConfig that this build carries but does not
// compute: any other value than these is refused, never ignored.
var must = map[string][]string{
	"use_dora":                {"false"},
	"lora_bias":               {"false"},
	"layer_replication":       nil,
	"trainable_token_indices": nil,
	"target_parameters":       {"[]"},
	"alora_invocation_tokens": nil,
	"use_qalora":              {"false"},
	"arrow_config":            nil,
	"kasa_config":             nil,
	"use_bdlora":              {"false"},
	"monteclora_config":       nil,
}

// parse reads adapter_config.json with PEFT's defaults for absent keys.
func parse(common *peft.Config) (*config, error) {
	c := &config{R: 8, Alpha: 8, common: common}
	if err := common.Decode(c); err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("adapter_config.json: "+format+": %w", append(args, peft.ErrConfig)...)
	}
	for _, key := range slices.Sorted(maps.Keys(must)) {
		if v := common.Raw(key); v != nil && !slices.Contains(must[key], string(v)) {
			return nil, bad("%s is %.60s, which this peftkit does not compute; without it the numbers would be wrong", key, v)
		}
	}
	switch {
	case c.R < 1 || c.R > 1<<16:
		return nil, bad("r is %d, expected 1 to %d", c.R, 1<<16)
	case c.Dropout < 0 || c.Dropout >= 1:
		return nil, bad("lora_dropout is %g, expected at least 0 and below 1", c.Dropout)
	case common.Bias != "none" && common.Bias != "all" && common.Bias != "lora_only":
		return nil, bad("bias is %q, expected none, all or lora_only", common.Bias)
	}
	var err error
	if c.ranks, err = peft.Patterns(c.RankPattern); err != nil {
		return nil, bad("rank_pattern: %w", err)
	}
	if c.alphas, err = peft.Patterns(c.AlphaPattern); err != nil {
		return nil, bad("alpha_pattern: %w", err)
	}
	return c, c.checkInit(bad)
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

// scaleOf returns alpha/r, or alpha/sqrt(r) for rsLoRA.
func scaleOf(alpha float64, r int, rs bool) float64 {
	if rs {
		return alpha / math.Sqrt(float64(r))
	}
	return alpha / float64(r)
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
