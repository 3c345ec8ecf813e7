package prompts

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
	"github.com/peftkit/peftkit/tensor"
)

// Method is a [peft.Method] made of an encoder and of the place where its output
// goes.
type Method struct {
	Facts peft.Info
	// Prefix says that the embeddings are keys and values instead of rows.
	Prefix bool
	// Prepare completes or refuses a configuration for a model before anything is
	// made of it, nil for nothing to do.
	Prepare func(c *peft.Config, m *model.Model) error
	// Encoder makes what computes the embeddings. With output the file holds only
	// these: what computed them was not saved.
	Encoder func(a *Adapter, output bool) (Encoder, error)
	// Init draws the parameters of a fresh adapter, nil for the encoder's own Init.
	Init func(a *Adapter, rng *rand.Rand) error
	// HeadRate is what the learning rate is multiplied with for a head and other
	// modules that are trained in full beside a prompt whose own rate is far above
	// theirs; 0 is 1.
	HeadRate float64
	// Attach hooks into the model.
	Attach func(a *Adapter) error
	// Wrap makes the adapter that callers get, nil for the Adapter itself.
	Wrap func(a *Adapter, fresh bool) peft.Adapter
}

// Adapter is a prompt attached to a model.
type Adapter struct {
	Cfg      *peft.Config
	Geometry Geometry
	Model    *model.Model
	Encoder  Encoder
	// Beside are trained parameters that are saved next to prompt_embeddings.
	Beside []*nn.Param

	facts    peft.Info
	headRate float64
	whole    []*nn.Param // of the head and of modules_to_save
}

var (
	_ peft.Method   = (*Method)(nil)
	_ peft.Adapter  = (*Adapter)(nil)
	_ peft.Exporter = (*Adapter)(nil)
	_ peft.Rater    = (*Adapter)(nil)
)

// Info implements peft.Method.
func (m *Method) Info() peft.Info { return m.Facts }

// Info implements peft.Described.
func (a *Adapter) Info() peft.Info { return a.facts }

// New implements peft.Method.
func (m *Method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	cfg, err := peft.NewConfig(o, m.Facts, mod)
	if err != nil {
		return nil, err
	}
	a, err := m.make(mod, cfg, false)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 0x70726f6d7074))
	if m.Init == nil {
		a.Encoder.Init(rng)
	} else if err := m.Init(a, rng); err != nil {
		return nil, err
	}
	return m.finish(a, true)
}

// Load implements peft.Method.
func (m *Method) Load(mod *model.Model, f *formats.Adapter, scale float32) (peft.Adapter, error) {
	if scale != 1 {
		return nil, fmt.Errorf("%s: a scale of %g: %s has no strength that could be scaled: %w", f.Path, scale, m.Facts.Name, peft.ErrConfig)
	}
	cfg, err := peft.ParseConfig(f.Config)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	set, err := peft.NewTensorSet(f)
	if err != nil {
		return nil, err
	}
	full := slices.ContainsFunc(f.Tensors, func(t *tensor.Tensor) bool { return strings.HasPrefix(t.Name, EncoderPrefix) })
	a, err := m.make(mod, cfg, !full)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	if full {
		set.Take(Saved) // what the encoder gives
	}
	// The parameters of the head may also be those of another adapter on the model,
	// so they keep the names that all other methods use.
	params := a.Params()
	names := make([]string, len(params))
	for i, p := range params {
		names[i], p.Name = p.Name, a.savedName(p)
	}
	err = set.Fill(params...)
	for i, p := range params {
		p.Name = names[i]
	}
	if err != nil {
		return nil, err
	}
	return m.finish(a, false)
}

// savedName is a parameter's name in the file: PEFT does not wrap the model for
// prompts, which shortens the names of modules.
func (a *Adapter) savedName(p *nn.Param) string {
	if slices.Contains(a.whole, p) {
		return "base_model." + strings.TrimPrefix(p.Name, peft.Prefix)
	}
	return p.Name
}

// make declares the parameters.
func (m *Method) make(mod *model.Model, cfg *peft.Config, output bool) (*Adapter, error) {
	if m.Prepare != nil {
		if err := m.Prepare(cfg, mod); err != nil {
			return nil, err
		}
	}
	g, err := geometry(cfg, mod, m.Prefix)
	if err != nil {
		return nil, err
	}
	a := &Adapter{Cfg: cfg, Geometry: g, Model: mod, facts: m.Facts, headRate: m.HeadRate}
	if a.Encoder, err = m.Encoder(a, output); err != nil {
		return nil, err
	}
	for _, module := range mod.Modules {
		if !cfg.Saves(module.Path) {
			continue
		}
		a.whole = append(a.whole, peft.WholeModule(module)...)
	}
	return a, nil
}

func (m *Method) finish(a *Adapter, fresh bool) (peft.Adapter, error) {
	if err := m.Attach(a); err != nil {
		return nil, err
	}
	a.Model.Reserve(a.Geometry.Tokens)
	if m.Wrap != nil {
		return m.Wrap(a, fresh), nil
	}
	return a, nil
}

// Params implements peft.Adapter.
func (a *Adapter) Params() []*nn.Param {
	return slices.Concat(a.Encoder.Params(), a.Beside, a.whole)
}

// Rate implements peft.Rater.
func (a *Adapter) Rate(p *nn.Param) (lr, decay float64) {
	if a.headRate > 0 && slices.Contains(a.whole, p) {
		return a.headRate, 1
	}
	return 1, 1
}

// Export implements peft.Exporter: the embeddings, not what computes them.
func (a *Adapter) Export() ([]formats.OutTensor, error) {
	t := nn.NewTape()
	defer t.Close()
	e := a.Encoder.Forward(t)
	p := nn.NewParam(Saved, e.Rows, e.Cols)
	copy(p.V.Data, e.Mat().Data)
	var out []formats.OutTensor
	for _, p := range slices.Concat([]*nn.Param{p}, a.Beside, a.whole) {
		o := peft.OutParam(p)
		o.Name = a.savedName(p)
		out = append(out, o)
	}
	return out, nil
}

// Config implements peft.Adapter.
func (a *Adapter) Config() (json.RawMessage, error) { return a.Cfg.JSON() }

// Summary implements peft.Adapter.
func (a *Adapter) Summary() string {
	s := fmt.Sprintf("%s of %d virtual tokens", a.facts.Name, a.Geometry.Tokens)
	if d, ok := a.Encoder.(interface{ Describe() string }); ok {
		s += ", " + d.Describe()
	}
	if len(a.whole) > 0 {
		s += fmt.Sprintf(", with %s trained in full", strings.Join(a.Cfg.ModulesToSave, ", "))
	}
	return s
}
