// Package outscale is a PEFT method in a module of its own. It learns one factor
// for each output of the linear layers it targets,
//
//	y = s ⊙ (W x + b),  s = 1 at the start,
//
// a relative of IA3 (Liu et al. 2022, arXiv 2205.05638). The factors merge into
// the weights exactly: row i of W and element i of b are multiplied by s[i].
package outscale

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

func init() { peft.Register(Method{}) }

// Method is the plug-in.
type Method struct{}

var (
	_ peft.Method = Method{}
	_ peft.Merger = Method{}
)

const (
	peftType = "OUTSCALE"
	prefix   = "base_model.model."
	suffix   = ".outscale"
)

// Info implements peft.Method.
func (Method) Info() peft.Info {
	return peft.Info{
		Name: "outscale", PeftType: peftType, Group: "adapter",
		Doc:          "learns one factor for each output of a linear layer",
		Reference:    "after IA3: Liu et al. 2022, arXiv 2205.05638",
		LearningRate: 5e-3,
		Options: []peft.Option{
			{Key: "target_modules", Flag: "target-modules", Default: peft.AllLinear, Doc: "suffixes, regex:EXPRESSION, or all-linear"},
		},
	}
}

// New implements peft.Method. All factors begin at 1, so the seed decides nothing.
func (m Method) New(mod *model.Model, o peft.Options, _ uint64) (peft.Adapter, error) {
	values, err := o.Resolve(m.Info())
	if err != nil {
		return nil, err
	}
	if s, ok := values["target_modules"].(string); ok {
		values["target_modules"] = peft.ParseTargets(s)
	}
	raw := map[string]json.RawMessage{}
	for key, v := range values {
		if raw[key], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	if raw["base_model_name_or_path"], err = json.Marshal(mod.Source.Path); err != nil {
		return nil, err
	}
	ad, err := build(mod, raw)
	if err != nil {
		return nil, err
	}
	for _, s := range ad.sites {
		for i := range s.factors.V.Data {
			s.factors.V.Data[i] = 1
		}
	}
	ad.attach(1)
	return ad, nil
}

// Load implements peft.Method. A scale other than 1 moves the factors between
// no effect (all 1) and their own values, or beyond.
func (Method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(a.Config, &raw); err != nil {
		return nil, fmt.Errorf("%s: adapter_config.json: %w", a.Path, err)
	}
	ad, err := build(mod, raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Path, err)
	}
	want := map[string]*nn.Param{}
	for _, p := range ad.Params() {
		want[p.Name] = p
	}
	matched := 0
	for _, t := range a.Tensors {
		p := want[t.Name]
		if p == nil {
			return nil, fmt.Errorf("%s: %s has no place in this model: %w", a.Path, t.Name, peft.ErrTensors)
		}
		if len(t.Shape) != 1 || t.Shape[0] != p.Shape[0] {
			return nil, fmt.Errorf("%s: %s has shape %v, expected %v: %w", a.Path, t.Name, t.Shape, p.Shape, peft.ErrTensors)
		}
		if err := t.Floats(p.V.Data, 0, t.Rows()); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
		delete(want, t.Name)
		matched++
	}
	switch {
	case matched == 0:
		return nil, fmt.Errorf("%s: no tensor fits this model: %w", a.Path, peft.ErrNoMatch)
	case len(want) > 0:
		return nil, fmt.Errorf("%s: %d of %d tensors are missing: %w", a.Path, len(want), len(want)+matched, peft.ErrTensors)
	}
	ad.attach(scale)
	return ad, nil
}

// site is one layer with its factors.
type site struct {
	mod     *model.Module
	factors *nn.Param
}

type adapter struct {
	raw   map[string]json.RawMessage
	sites []site
}

// build finds the targets and makes zeroed parameters for them.
func build(mod *model.Model, raw map[string]json.RawMessage) (*adapter, error) {
	var targets peft.Targets
	if err := json.Unmarshal(raw["target_modules"], &targets); err != nil {
		return nil, fmt.Errorf("target_modules: %w: %w", err, peft.ErrConfig)
	}
	ad := &adapter{raw: maps.Clone(raw)}
	for _, m := range mod.Modules {
		hit := targets.IsAllLinear() && !m.Output
		if !targets.IsAllLinear() {
			var err error
			if hit, err = targets.Match(m.Path); err != nil {
				return nil, err
			}
		}
		if hit && m.Linear != nil {
			ad.sites = append(ad.sites, site{m, nn.NewParam(prefix+m.Path+suffix, m.Linear.W.Out)})
		}
	}
	if len(ad.sites) == 0 {
		return nil, fmt.Errorf("target_modules hits no linear layer of this model: %w", peft.ErrNoMatch)
	}
	return ad, nil
}

// attach hooks the factors into the layers.
func (ad *adapter) attach(scale float32) {
	for _, s := range ad.sites {
		v := s.factors.V
		if scale != 1 {
			v = &nn.Var{Rows: 1, Cols: v.Cols, Data: scaled(v.Data, scale)}
		}
		s.mod.Linear.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
			return nn.MulRow(t, next(t, x), v)
		})
	}
}

// scaled returns 1 + scale*(s-1).
func scaled(s []float32, scale float32) []float32 {
	out := make([]float32, len(s))
	for i, x := range s {
		out[i] = 1 + scale*(x-1)
	}
	return out
}

// Params implements peft.Adapter.
func (ad *adapter) Params() []*nn.Param {
	var out []*nn.Param
	for _, s := range ad.sites {
		out = append(out, s.factors)
	}
	return out
}

// Config implements peft.Adapter. Keys that this version does not know stay.
func (ad *adapter) Config() (json.RawMessage, error) {
	out := maps.Clone(ad.raw)
	out["peft_type"] = json.RawMessage(`"` + peftType + `"`)
	out["task_type"] = json.RawMessage(`"CAUSAL_LM"`)
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// Summary implements peft.Adapter.
func (ad *adapter) Summary() string {
	return fmt.Sprintf("output scales on %d modules", len(ad.sites))
}

// Changes implements peft.Merger.
func (Method) Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*peft.ChangeSet, error) {
	out := &peft.ChangeSet{}
	for _, t := range a.Tensors {
		path := strings.TrimSuffix(strings.TrimPrefix(t.Name, prefix), suffix)
		shape := c.Shape(path + ".weight")
		if shape == nil || !strings.HasSuffix(t.Name, suffix) {
			out.Unmatched = append(out.Unmatched, t.Name)
			continue
		}
		if len(t.Shape) != 1 || t.Shape[0] != shape[0] {
			return nil, fmt.Errorf("%s: %s has %v factors, the weight is %v: %w", a.Path, t.Name, t.Shape, shape, peft.ErrTensors)
		}
		s, err := t.AllFloats()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
		s = scaled(s, scale)
		cols := shape[1]
		out.Changes = append(out.Changes, peft.Change{Tensor: path + ".weight", Apply: func(w []float32, r0, r1 int) {
			for r := r0; r < r1; r++ {
				for i := range cols {
					w[(r-r0)*cols+i] *= s[r]
				}
			}
		}})
		if c.Shape(path+".bias") != nil {
			out.Changes = append(out.Changes, peft.Change{Tensor: path + ".bias", Apply: func(w []float32, r0, r1 int) {
				if r0 < r1 { // a vector is a single row
					for i := range w {
						w[i] *= s[i]
					}
				}
			}})
		}
		out.Matched++
	}
	if out.Matched == 0 {
		return nil, fmt.Errorf("%s: no tensor fits the base model: %w", a.Path, peft.ErrNoMatch)
	}
	return out, nil
}
