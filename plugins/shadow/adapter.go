package shadow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
	"github.com/peftkit/peftkit/peft/tuner"
)

// adapter is a shadow network and what it does to the blocks of a model.
type adapter struct {
	cfg    *peft.Config
	c      *config
	model  *model.Model
	params []*nn.Param
	frozen []*nn.Param // saved and not trained: the embeddings of a network that was loaded

	net        *model.Model    // the shadow network
	projection *nn.Param       // [hidden size, that of net], nil when they are equal
	head       *nn.LinearLayer // of the shadow's own loss when the model's is not used
	sites      []*site
	unused     *unused

	pass
}

// site are the parameters at a block.
type site struct {
	at              *model.Block
	down, up        *nn.Param // [r, hidden size] and [hidden size, r]
	transform, gate *mlp
}

// mlp is two linear layers with GELU between them.
type mlp [2]*prompts.Linear

// unused is the table of embeddings that PEFT leaves in the file although the model's
// is read: it only knows how to take off embed_tokens, which GPT-2's is not called.
type unused struct {
	*nn.Weight
	name string // in the file
}

var (
	_ peft.Adapter  = (*adapter)(nil)
	_ peft.Exporter = (*adapter)(nil)
)

// Where PEFT registers the network.
const (
	backbone   = "base_model.shadow_backbone.default."
	projection = "base_model.shadow_projection.default."
	head       = "base_model.shadow_head.default."
)

// build makes the shadow network and declares all parameters.
func build(cfg *peft.Config, m *model.Model) (*adapter, error) {
	c, err := readConfig(cfg)
	if err != nil {
		return nil, err
	}
	if len(m.Blocks) == 0 {
		return nil, fmt.Errorf("shadow follows the blocks of a decoder-only model, which this is not: %w; adapters between the layers fit, such as houlsby", peft.ErrNoFit)
	}
	a := &adapter{cfg: cfg, c: c, model: m}
	if err := a.choose(); err != nil {
		return nil, err
	}
	if err := a.makeNetwork(); err != nil {
		return nil, fmt.Errorf("the shadow network: %w", err)
	}
	if err := a.makeHead(); err != nil {
		return nil, err
	}
	for _, mod := range m.Modules {
		if cfg.Saves(mod.Path) {
			a.params = append(a.params, peft.WholeModule(mod)...)
		}
	}
	return a, nil
}

func (a *adapter) param(name string, shape ...int) *nn.Param {
	p := nn.NewParam(name, shape...)
	a.params = append(a.params, p)
	return p
}

// choose declares the sites of the blocks that are targets, all by default.
func (a *adapter) choose() error {
	targets, d := a.cfg.TargetModules, a.model.HiddenSize
	if targets.Empty() {
		for _, b := range a.model.Blocks {
			targets.List = append(targets.List, b.Path)
		}
		a.cfg.SetTargets(targets)
	}
	for i, b := range a.model.Blocks {
		hit, err := a.cfg.Hits(&model.Module{Path: b.Path})
		if err != nil {
			return err
		}
		if !hit {
			continue
		}
		if n := len(a.sites); n > 0 && a.sites[n-1].at != a.model.Blocks[i-1] {
			return tuner.Invalid("target_modules leaves out blocks between %s and %s: the shadow goes from block to block, so that there may be no gap", a.sites[n-1].at.Path, b.Path)
		}
		name := peft.Prefix + b.Path + ".shadow_"
		s := &site{at: b, down: a.param(name+"down.default.weight", a.c.R, d), up: a.param(name+"up.default.weight", d, a.c.R)}
		width := or(a.c.Update, a.c.R)
		s.transform, s.gate = a.mlp(name+"update_transform.default.", d, width), a.mlp(name+"update_gate.default.", d, width)
		a.sites = append(a.sites, s)
	}
	if len(a.sites) == 0 {
		return fmt.Errorf("target_modules names none of the blocks %s to %s: %w", a.model.Blocks[0].Path, a.model.Blocks[len(a.model.Blocks)-1].Path, peft.ErrNoMatch)
	}
	return nil
}

func (a *adapter) mlp(name string, d, width int) *mlp {
	n := &mlp{}
	for i, l := range []struct {
		place   string
		out, in int
	}{{"0.", width, d}, {"2.", d, width}} {
		n[i] = &prompts.Linear{W: a.param(name+l.place+"weight", l.out, l.in), B: a.param(name+l.place+"bias", l.out)}
	}
	return n
}

// open returns the checkpoint of the shadow network.
func (a *adapter) open() (*model.Checkpoint, error) {
	if a.c.Model == mirror {
		return a.model.Checkpoint.Mirror(model.Sizes{Layers: or(a.c.Layers, 1), Hidden: or(a.c.Hidden, 0), Heads: or(a.c.Heads, 0), Intermediate: or(a.c.Intermediate, 0)})
	}
	ck, err := model.Open(a.c.Model)
	if err != nil {
		return nil, fmt.Errorf("shadow_model has to be %q or a model that is here: %w: %w", mirror, err, peft.ErrConfig)
	}
	return ck, nil
}

// makeNetwork builds the shadow network, trainable.
func (a *adapter) makeNetwork() error {
	ck, err := a.open()
	if err != nil {
		return err
	}
	if a.c.Model != mirror {
		defer ck.Close() // all that is used of it is in memory then
	}
	if a.net, err = model.Build(ck, model.Options{}); err != nil {
		return err
	}
	switch task := a.net.Options.Task; {
	case len(a.net.Blocks) == 0 || task == model.SequenceClassification || task == model.TokenClassification:
		return tuner.Invalid("shadow_model %s is no decoder that writes text", a.c.Model)
	case a.net.VocabSize < a.model.VocabSize:
		return tuner.Invalid("shadow_model %s knows %d tokens, the model %d", a.c.Model, a.net.VocabSize, a.model.VocabSize)
	}
	a.net.Head = nil
	in := a.net.Inputs[0]
	shares := a.c.Share && a.c.Model == mirror && a.net.HiddenSize == a.model.HiddenSize
	for _, mod := range a.net.Modules {
		switch {
		case mod.Output:
		case shares && mod.Embedding == in.Embedding:
			if !strings.HasSuffix(mod.Path, ".embed_tokens") {
				a.unused = &unused{a.model.Inputs[0].Embedding.W, backbone + bare(mod.Path) + ".weight"}
			}
		default:
			for _, p := range peft.WholeModule(mod) {
				p.Name = backbone + bare(strings.TrimPrefix(p.Name, peft.Prefix))
				if a.c.Model != mirror && mod.Embedding == in.Embedding {
					p.V.Needs = false
					a.frozen = append(a.frozen, p)
					continue
				}
				a.params = append(a.params, p)
			}
		}
	}
	if shares {
		in.Embedding = a.model.Inputs[0].Embedding
	}
	if n := a.net.HiddenSize; n != a.model.HiddenSize {
		a.projection = a.param(projection+"weight", a.model.HiddenSize, n)
	}
	return nil
}

// makeHead gives a classifier of sequences a second head, for the shadow's own loss.
func (a *adapter) makeHead() error {
	base := a.model.Head
	if base == nil || a.model.Options.Task != model.SequenceClassification {
		return nil
	}
	weight := func(part string, w *nn.Weight, shape ...int) *nn.Weight {
		return &nn.Weight{Name: head + part, Out: w.Out, In: w.In, P: a.param(head+part, shape...)}
	}
	a.head = &nn.LinearLayer{Path: "shadow_head", W: weight("weight", base.W, base.W.Out, base.W.In)}
	if base.Bias != nil {
		a.head.Bias = weight("bias", base.Bias, base.Bias.In)
	}
	return nil
}

// Params implements peft.Adapter.
func (a *adapter) Params() []*nn.Param { return a.params }

// Export implements peft.Exporter.
func (a *adapter) Export() ([]formats.OutTensor, error) {
	var out []formats.OutTensor
	for _, p := range slices.Concat(a.params, a.frozen) {
		out = append(out, peft.OutParam(p))
	}
	if u := a.unused; u != nil {
		p := nn.NewParam(u.name, u.Out, u.In)
		copyTo(p, u.Weight)
		out = append(out, peft.OutParam(p))
	}
	slices.SortFunc(out, func(a, b formats.OutTensor) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Config implements peft.Adapter.
func (a *adapter) Config() (json.RawMessage, error) { return a.cfg.JSON() }

// Summary implements peft.Adapter.
func (a *adapter) Summary() string {
	s := fmt.Sprintf("a shadow network of %d layers and %d features, rank %d at %d of %d blocks", a.net.Layers, a.net.HiddenSize, a.c.R, len(a.sites), len(a.model.Blocks))
	if len(a.cfg.ModulesToSave) > 0 {
		s += fmt.Sprintf(", with %s trained in full", strings.Join(a.cfg.ModulesToSave, ", "))
	}
	return s
}
