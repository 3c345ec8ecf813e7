// Package selective is what methods share that train tensors of the model itself
// and add none: they choose, this package names, saves, loads and merges. The
// adapter file is a folder like Hugging Face PEFT's whose tensors replace the
// base's; PEFT has no type for these methods.
package selective

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Method is a [peft.Method] and [peft.Merger] made of a choice.
type Method struct {
	Facts peft.Info
	// Choose unfreezes what is trained beside the head of the task and returns it
	// under saved names, with a few words that say what it is. An error that wraps
	// peft.ErrNoFit says why the model has nothing to choose.
	Choose func(c *peft.Config, m *model.Model) (params []*nn.Param, what string, err error)
}

var (
	_ peft.Method = (*Method)(nil)
	_ peft.Merger = (*Method)(nil)
	_ peft.Sizer  = (*Method)(nil)
)

type adapter struct {
	facts  peft.Info
	cfg    *peft.Config
	params []*nn.Param
	what   string
}

// Info implements peft.Method.
func (m *Method) Info() peft.Info { return m.Facts }

func (m *Method) build(mod *model.Model, c *peft.Config) (*adapter, error) {
	params, what, err := m.Choose(c, mod)
	if err != nil {
		return nil, err
	}
	for _, module := range mod.Modules {
		if c.Saves(module.Path) {
			for _, p := range peft.WholeModule(module) {
				if !slices.Contains(params, p) {
					params = append(params, p)
				}
			}
		}
	}
	return &adapter{m.Facts, c, params, what}, nil
}

// New implements peft.Method.
func (m *Method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	c, err := peft.NewConfig(o, m.Facts, mod)
	if err != nil {
		return nil, err
	}
	return m.build(mod, c)
}

// Size implements peft.Sizer: the weights are not read.
func (m *Method) Size(mod *model.Model, o peft.Options, seed uint64) (int64, error) {
	hollow := func(w *nn.Weight) {
		if w != nil && w.Frozen != nil {
			f := *w.Frozen
			f.Decode = func([]float32, []byte) {}
			w.Frozen = &f
		}
	}
	for _, module := range mod.Modules {
		hollow(module.Weight())
		hollow(module.Bias())
	}
	ad, err := m.New(mod, o, seed)
	if err != nil {
		return 0, err
	}
	return peft.Elements(ad.Params()), nil
}

// Load implements peft.Method.
func (m *Method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	if scale != 1 {
		return nil, fmt.Errorf("%s: a scale of %g cannot apply to tensors that replace the model's own: %w", a.Path, scale, peft.ErrConfig)
	}
	return m.read(mod, a)
}

func (m *Method) read(mod *model.Model, a *formats.Adapter) (*adapter, error) {
	c, err := peft.ParseConfig(a.Config)
	if err != nil {
		return nil, formats.At(a.Path, err)
	}
	ad, err := m.build(mod, c)
	if err != nil {
		return nil, formats.At(a.Path, err)
	}
	set, err := peft.NewTensorSet(a)
	if err != nil {
		return nil, err
	}
	return ad, set.Fill(ad.params...)
}

// Changes implements peft.Merger.
func (m *Method) Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*peft.ChangeSet, error) {
	mod, err := peft.BuildFor(a, c)
	if err != nil {
		return nil, err
	}
	if scale != 1 {
		return nil, fmt.Errorf("%s: a scale of %g cannot apply to tensors that replace the model's own: %w", a.Path, scale, peft.ErrConfig)
	}
	ad, err := m.read(mod, a)
	if err != nil {
		return nil, err
	}
	out := &peft.ChangeSet{Matched: len(a.Tensors)}
	for _, p := range ad.params {
		out.Changes = append(out.Changes, peft.ReplaceBy(p, mod))
	}
	return out, nil
}

// Info implements peft.Described.
func (a *adapter) Info() peft.Info { return a.facts }

// Params implements peft.Adapter.
func (a *adapter) Params() []*nn.Param { return a.params }

// Config implements peft.Adapter.
func (a *adapter) Config() (json.RawMessage, error) { return a.cfg.JSON() }

// Summary implements peft.Adapter.
func (a *adapter) Summary() string { return a.what }

// Save is a parameter of the model under its saved name.
func Save(w *nn.Weight, path, part string) *nn.Param {
	p := w.Unfreeze()
	p.Name = peft.Prefix + path + "." + part
	return p
}
