package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/peftkit/peftkit/peft"
)

// fields are the keys of one configuration with their values as JSON.
type fields map[string]json.RawMessage

// Architectures: what the key architecture of a part says.
const (
	bottleneckArch = ""
	prefixArch     = "prefix_tuning"
	loraArch       = "lora"
	unionArch      = "union"
)

// defaults of the library's configuration classes (BnConfig, PrefixTuningConfig,
// LoRAConfig). Numbers that the library wants as floats carry a point.
var defaults = map[string]string{
	bottleneckArch: `{"mh_adapter": false, "output_adapter": true, "reduction_factor": 16, "non_linearity": "relu",
		"original_ln_before": false, "original_ln_after": true, "ln_before": false, "ln_after": false,
		"init_weights": "bert", "init_weights_seed": null, "is_parallel": false, "scaling": 1.0, "use_gating": false,
		"residual_before_ln": true, "adapter_residual_before_ln": false, "inv_adapter": null,
		"inv_adapter_reduction_factor": null, "cross_adapter": false, "leave_out": [], "dropout": 0.0,
		"phm_layer": false, "phm_dim": 4, "factorized_phm_W": true, "shared_W_phm": false, "shared_phm_rule": true,
		"factorized_phm_rule": false, "phm_c_init": "normal", "phm_init_range": 0.0001, "learn_phm": true,
		"hypercomplex_nonlinearity": "glorot-uniform", "phm_rank": 1, "phm_bias": true, "stochastic_depth": 0.0}`,
	prefixArch: `{"architecture": "prefix_tuning", "encoder_prefix": true, "cross_prefix": true, "leave_out": [],
		"flat": false, "prefix_length": 30, "bottleneck_size": 512, "non_linearity": "tanh", "dropout": 0.0,
		"use_gating": false, "shared_gating": true, "init_weights_seed": null}`,
	loraArch: `{"architecture": "lora", "selfattn_lora": true, "intermediate_lora": false, "output_lora": false,
		"leave_out": [], "r": 8, "alpha": 8, "dropout": 0.0, "attn_matrices": ["q", "v"], "composition_mode": "add",
		"init_weights": "lora", "init_weights_seed": null, "use_gating": false, "use_dora": false, "vera_d": null,
		"vera_b": null, "dtype": null}`,
}

// floats are the keys whose numbers the library checks to be Python floats.
var floats = map[string]bool{"scaling": true, "dropout": true, "stochastic_depth": true, "phm_init_range": true}

// file is adapter_config.json: one part, or the parts of a union.
type file struct {
	raw   fields // of the whole file, but for config
	parts []part
	union bool
}

// part is the configuration of one method.
type part struct {
	arch string
	raw  fields
}

// decode reads the part's keys into dst, the library's defaults first.
func (p part) decode(dst any) error {
	if err := json.Unmarshal([]byte(defaults[p.arch]), dst); err != nil {
		return err
	}
	raw, err := json.Marshal(p.raw)
	if err == nil {
		err = json.Unmarshal(raw, dst)
	}
	if err != nil {
		return fmt.Errorf("adapter_config.json: config: %w: %w", err, peft.ErrConfig)
	}
	return nil
}

// parse reads adapter_config.json.
func parse(raw json.RawMessage) (*file, error) {
	f := &file{}
	if err := json.Unmarshal(raw, &f.raw); err != nil {
		return nil, fmt.Errorf("adapter_config.json: %w: %w", err, peft.ErrConfig)
	}
	var c fields
	if err := json.Unmarshal(f.raw["config"], &c); err != nil || c == nil {
		return nil, fmt.Errorf("adapter_config.json: config is no object: %w", peft.ErrConfig)
	}
	delete(f.raw, "config")
	p, err := parsePart(c)
	if err != nil {
		return nil, err
	}
	if p.arch != unionArch {
		f.parts = []part{p}
		return f, nil
	}
	f.union = true
	var list []fields
	if err := json.Unmarshal(c["configs"], &list); err != nil || len(list) == 0 {
		return nil, fmt.Errorf("adapter_config.json: a union without configs: %w", peft.ErrConfig)
	}
	for _, c := range list {
		p, err := parsePart(c)
		if err != nil {
			return nil, err
		}
		if p.arch == unionArch {
			return nil, fmt.Errorf("adapter_config.json: a union within a union: %w", peft.ErrConfig)
		}
		f.parts = append(f.parts, p)
	}
	return f, nil
}

func parsePart(c fields) (part, error) {
	p := part{raw: c}
	if a := c["architecture"]; a != nil && json.Unmarshal(a, &p.arch) != nil {
		return p, fmt.Errorf("adapter_config.json: architecture %s: %w", a, peft.ErrConfig)
	}
	if p.arch == "bottleneck" {
		p.arch = bottleneckArch
	}
	if p.arch != unionArch && defaults[p.arch] == "" {
		return p, fmt.Errorf("adapter_config.json: architecture %q: this peftkit has bottleneck adapters, prefix tuning, LoRA and unions of these: %w", p.arch, peft.ErrConfig)
	}
	return p, nil
}

// JSON returns the file as the library writes it: sorted, indented by two.
func (f *file) JSON() (json.RawMessage, error) {
	all := maps.Clone(f.raw)
	var config any
	if f.union {
		var list []fields
		for _, p := range f.parts {
			list = append(list, p.raw)
		}
		config = map[string]any{"architecture": unionArch, "configs": list}
	} else {
		config = f.parts[0].raw
	}
	var err error
	if all["config"], err = json.Marshal(config); err != nil {
		return nil, err
	}
	return json.MarshalIndent(all, "", "  ")
}

// str returns a string of the file's own keys, "" when it is absent.
func (f *file) str(key string) string {
	var s string
	if json.Unmarshal(f.raw[key], &s) != nil {
		return ""
	}
	return s
}

// legacy says that the file is older than version 3 of the library, which gave
// the activations other names.
func (f *file) legacy() bool { return f.raw["version"] == nil }

// fresh makes the configuration of a new adapter: the presets of a method, each
// option in every part that has its key. The non_linearity of a union is its
// adapter's.
func fresh(presets []Preset, union bool, options map[string]any) (*file, error) {
	f := &file{raw: fields{}, union: union}
	for _, ps := range presets {
		p := part{arch: ps.Architecture, raw: fields{}}
		for _, src := range []string{defaults[ps.Architecture], ps.Values} {
			if src == "" {
				continue
			}
			if err := json.Unmarshal([]byte(src), &p.raw); err != nil {
				return nil, fmt.Errorf("preset %s: %w", src, err)
			}
		}
		f.parts = append(f.parts, p)
	}
	for key, v := range options {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if floats[key] && !bytes.ContainsAny(raw, `."e[{tfn`) {
			raw = append(raw, ".0"...)
		}
		for _, p := range f.parts {
			if key == "non_linearity" && union && p.arch != bottleneckArch {
				continue
			}
			if _, has := p.raw[key]; has {
				p.raw[key] = raw
			}
		}
	}
	return f, nil
}

// oneOf checks a word of a configuration.
func oneOf(key, got string, want ...string) error {
	for _, w := range want {
		if got == w {
			return nil
		}
	}
	return fmt.Errorf("%s is %q, expected %s: %w", key, got, strings.Join(want, ", "), peft.ErrConfig)
}
