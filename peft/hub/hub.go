// Package hub is what methods share whose files are those of the adapters
// library (Poth et al. 2023, arXiv 2311.11077): bottleneck adapters and Compacter,
// prefix tuning and gated LoRA in the library's form, and unions of these. A
// method brings presets of the library's configurations; this package reads
// configurations, builds the parts into a model and names their tensors.
//
// The library has native adapters for Llama, Mistral, GPT-2, BERT, RoBERTa,
// DistilBERT, T5 and BART, and places bottlenecks and LoRA in Qwen 2 and 3 at the
// same points from outside. Other families get their adapters where Llama (norm
// before a block) or BART (norm after it) has them, under the same names; the
// library itself hooks Gemma 2 and 3 before the norm that follows a block.
package hub

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// version is the release of the library whose files are written.
const version = "adapters.1.3.0"

// Preset is one part of a method: the library's defaults of an architecture with
// some values changed.
type Preset struct {
	// Architecture is "" for a bottleneck, prefix_tuning or lora.
	Architecture string
	// Values is a JSON object of what differs from the library's class.
	Values string
}

// Method is a [peft.Method] made of presets.
type Method struct {
	Facts peft.Info
	// Presets has one element, or with Union those of a union.
	Presets []Preset
	Union   bool
	// Is reports whether a saved configuration belongs to the method.
	Is func(c Shape) bool

	once sync.Once
	info peft.Info
}

// Shape is what tells saved configurations apart.
type Shape struct {
	// Union holds the architectures of a union's parts, nil for a single part.
	Union []string
	// Architecture of a single part, and what a bottleneck says.
	Architecture              string
	MH, Output, Parallel, PHM bool
}

var (
	_ peft.Method     = (*Method)(nil)
	_ peft.Recogniser = (*Method)(nil)
	_ peft.Tasker     = (*Method)(nil)
)

// NameOption is the option with the adapter's name in the file, which every
// method of the package has.
func NameOption() peft.Option {
	return peft.Option{Key: "name", Default: "adapter", Doc: "name of the adapter in the file"}
}

// Info implements peft.Method. Options without a default in Facts get the one that
// the presets and the library give them, so that a reader sees what holds.
func (m *Method) Info() peft.Info {
	m.once.Do(func() {
		m.info = m.Facts
		m.info.Options = slices.Clone(m.Facts.Options)
		for i, o := range m.info.Options {
			if o.Default == nil {
				m.info.Options[i].Default = m.preset(o.Key)
			}
		}
	})
	return m.info
}

// preset returns the value of a key in the first part that has it, nil when that
// is no number, boolean or word.
func (m *Method) preset(key string) any {
	for _, p := range m.Presets {
		var values map[string]any
		if json.Unmarshal([]byte(defaults[p.Architecture]), &values) != nil || json.Unmarshal([]byte(p.Values), &values) != nil {
			continue // New tells
		}
		switch v := values[key].(type) {
		case bool, float64, string:
			return v
		}
	}
	return nil
}

// Recognises implements peft.Recogniser.
func (m *Method) Recognises(config json.RawMessage) bool {
	f, err := parse(config)
	if err != nil {
		return false
	}
	var s Shape
	if f.union {
		for _, p := range f.parts {
			s.Union = append(s.Union, p.arch)
		}
	} else if s.Architecture = f.parts[0].arch; s.Architecture == bottleneckArch {
		var c bnConfig
		if f.parts[0].decode(&c) != nil {
			return false
		}
		s.MH, s.Output, s.Parallel, s.PHM = c.MH, c.Output, c.Parallel, c.PHM
	}
	return m.Is(s)
}

// New implements peft.Method.
func (m *Method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	values, err := o.Resolve(m.Facts)
	if err != nil {
		return nil, err
	}
	name, ok := values["name"].(string)
	if !ok || name == "" || strings.ContainsAny(name, "./\\ ,") {
		return nil, fmt.Errorf("name %q: expected a word without dots, commas and spaces: %w", values["name"], peft.ErrConfig)
	}
	delete(values, "name")
	f, err := fresh(m.Presets, m.Union, values)
	if err != nil {
		return nil, err
	}
	for _, p := range f.parts {
		if err := fitOptions(p, o, mod.HiddenSize); err != nil {
			return nil, err
		}
	}
	a := &Adapter{info: m.Info(), file: f, model: mod, name: name}
	a.describe()
	if err := a.build(); err != nil {
		return nil, err
	}
	for _, p := range a.ones {
		for i := range p.V.Data {
			p.V.Data[i] = 1
		}
	}
	for _, s := range a.sites {
		h := fnv.New64a()
		h.Write([]byte(s.path()))
		s.init(rand.New(rand.NewPCG(seed, h.Sum64())))
	}
	return a, a.attach(1)
}

// Load implements peft.Method.
func (m *Method) Load(mod *model.Model, file *formats.Adapter, scale float32) (peft.Adapter, error) {
	f, err := parse(file.Config)
	if err != nil {
		return nil, formats.At(file.Path, err)
	}
	a := &Adapter{info: m.Info(), file: f, model: mod, name: f.str("name")}
	if a.name == "" {
		return nil, fmt.Errorf("%s: adapter_config.json has no name, which stands in the names of the tensors: %w", file.Path, peft.ErrConfig)
	}
	if err := a.fits(); err != nil {
		return nil, formats.At(file.Path, err)
	}
	if err := a.build(); err != nil {
		return nil, formats.At(file.Path, err)
	}
	if err := a.fill(file); err != nil {
		return nil, err
	}
	return a, a.attach(scale)
}
