// Package adaptionprompt is LLaMA-Adapter (Zhang et al. 2023, arXiv 2303.16199) as
// a peftkit method: in the upper layers every token also attends to a few trained
// embeddings, and a gate that begins at zero lets the result in. Files are those
// of Hugging Face PEFT's ADAPTION_PROMPT.
package adaptionprompt

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is LLaMA-Adapter.
var Method peft.Method = method{}

type method struct{}

// paperBelow is the number of lowest layers that the paper leaves alone: 30 of the
// 32 layers of LLaMA 7B have prompts.
const paperBelow = 2

// Info implements peft.Method. Length, learning rate and weight decay are the
// paper's.
func (method) Info() peft.Info {
	return peft.Info{
		Name: "adaption-prompt", Aliases: []string{"adaption_prompt", "llama-adapter"}, PeftType: "ADAPTION_PROMPT", Group: peft.AdapterBased,
		Doc:          "lets the upper layers attend to trained embeddings through a gate that begins at zero",
		Reference:    "Zhang et al. 2023, arXiv 2303.16199",
		NotMergeable: "its gated attention to a prompt is no change of a weight",
		LearningRate: 9e-3, WeightDecay: 0.02,
		Options: []peft.Option{
			{Key: "adapter_len", Flag: "adapter-len", Default: 10, Doc: "number of trained embeddings of each layer"},
			{Key: "adapter_layers", Flag: "adapter-layers", Doc: "number of layers that have them, from the top (default: all but the two lowest, as in the paper)"},
			{Key: "target_modules", Doc: "name of the attention modules, which follows from the model"},
		},
	}
}

// attentionName gives what PEFT calls the attention module of a type of model.
// PEFT 0.21 knows the first three; the others compute attention as Llama does.
var attentionName = map[string]string{"llama": "self_attn", "mistral": "self_attn", "gpt2": "attn", "qwen2": "self_attn"}

type config struct {
	Len    int    `json:"adapter_len"`
	Layers int    `json:"adapter_layers"`
	Target string `json:"target_modules"`
}

// New implements peft.Method.
func (mt method) New(m *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	cfg, err := peft.NewConfig(o, mt.Info(), m)
	if err != nil {
		return nil, err
	}
	if cfg.Raw("adapter_layers") == nil {
		cfg.Set("adapter_layers", max(1, m.Layers-paperBelow))
	}
	// NewConfig has read a target as a list of names, and PEFT wants one.
	if len(cfg.TargetModules.List) > 0 {
		cfg.Set("target_modules", strings.Join(cfg.TargetModules.List, ","))
	}
	a, err := build(cfg, m)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0x6164617074))
	for _, s := range a.sites {
		prompts.Normal(rng, s.prompt.V.Data, 1) // as the paper's code: an Embedding; gates stay 0
	}
	a.attach(1)
	return a, nil
}

// Load implements peft.Method. A scale multiplies the gates.
func (mt method) Load(m *model.Model, f *formats.Adapter, scale float32) (peft.Adapter, error) {
	cfg, err := peft.ParseConfig(f.Config)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	set, err := peft.NewTensorSet(f)
	if err != nil {
		return nil, err
	}
	a, err := build(cfg, m)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	if scale != 1 && len(a.whole) > 0 {
		return nil, fmt.Errorf("%s: a scale of %g cannot apply to the whole modules that the adapter carries: %w", f.Path, scale, peft.ErrConfig)
	}
	if err := set.Fill(a.Params()...); err != nil {
		return nil, err
	}
	a.attach(scale)
	return a, nil
}

// adapter is LLaMA-Adapter on a model.
type adapter struct {
	cfg   *peft.Config
	c     config
	sites []*site
	whole []*nn.Param
}

// build declares the parameters of the top layers.
func build(cfg *peft.Config, m *model.Model) (*adapter, error) {
	name := attentionName[m.Type()]
	if name == "" || m.Head == nil {
		return nil, fmt.Errorf("model type %q: %w: LLaMA-Adapter is for decoders with Llama's or GPT-2's attention; prefix-tuning fits other models", m.Type(), peft.ErrNoFit)
	}
	c := config{Len: 10, Target: name}
	if err := cfg.Decode(&c); err != nil {
		return nil, err
	}
	if c.Target == "" {
		c.Target = name
	}
	cfg.Set("target_modules", c.Target)
	switch {
	case c.Len < 1:
		return nil, fmt.Errorf("adapter_len is %d, expected 1 or more: %w", c.Len, peft.ErrConfig)
	case c.Layers < 1 || c.Layers > m.Layers:
		return nil, fmt.Errorf("adapter_layers is %d, expected 1 to the model's %d: %w", c.Layers, m.Layers, peft.ErrConfig)
	case c.Target != name:
		return nil, fmt.Errorf("target_modules is %q, this model's attention modules are called %s: %w", c.Target, name, peft.ErrConfig)
	}
	a := &adapter{cfg: cfg, c: c}
	for _, at := range m.Attentions {
		if at.Layer < m.Layers-c.Layers {
			continue
		}
		s, err := newSite(m, at, c.Len)
		if err != nil {
			return nil, err
		}
		a.sites = append(a.sites, s)
	}
	for _, mod := range m.Modules {
		if cfg.Saves(mod.Path) {
			a.whole = append(a.whole, peft.WholeModule(mod)...)
		}
	}
	return a, nil
}

func (a *adapter) attach(scale float32) {
	for _, s := range a.sites {
		s.attach(scale)
	}
}

// Params implements peft.Adapter.
func (a *adapter) Params() []*nn.Param {
	var out []*nn.Param
	for _, s := range a.sites {
		out = append(out, s.gate, s.prompt)
	}
	return slices.Concat(out, a.whole)
}

// Config implements peft.Adapter. PEFT's configuration of this method has no
// modules_to_save and warns about keys that it does not know.
func (a *adapter) Config() (json.RawMessage, error) {
	raw, err := a.cfg.JSON()
	if err != nil || len(a.whole) > 0 {
		return raw, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, err
	}
	delete(keys, "modules_to_save")
	raw, err = json.MarshalIndent(keys, "", "  ")
	return append(raw, '\n'), err
}

// Summary implements peft.Adapter.
func (a *adapter) Summary() string {
	return fmt.Sprintf("adaption-prompt of %d embeddings in the top %d layers", a.c.Len, len(a.sites))
}
