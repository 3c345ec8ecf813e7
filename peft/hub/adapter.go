package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// site is one place that a part changes.
type site interface {
	path() string
	init(rng *rand.Rand)
	attach(scale float32) error
}

// Adapter is a [peft.Adapter] in the form of the adapters library.
type Adapter struct {
	info  peft.Info
	file  *file
	model *model.Model
	name  string

	sites   []site
	saved   []*nn.Param // in the file of the adapter
	frozen  []*nn.Param // of these, what is not trained
	ones    []*nn.Param // begin with ones
	twins   []twin
	head    []*nn.Param // in the file of the head
	passes  map[model.Stack]*pass
	summary []string
}

// twin is a second name of a parameter in the file; an alias may be absent.
type twin struct {
	name  string
	p     *nn.Param
	alias bool
}

var (
	_ peft.Adapter  = (*Adapter)(nil)
	_ peft.Exporter = (*Adapter)(nil)
	_ peft.Saver    = (*Adapter)(nil)
)

// build declares all parameters.
func (a *Adapter) build() error {
	for _, p := range a.file.parts {
		var err error
		switch p.arch {
		case prefixArch:
			err = a.prefix(p)
		case loraArch:
			err = a.lora(p)
		default:
			err = a.bottleneck(p)
		}
		if err != nil {
			return err
		}
	}
	for _, mod := range a.model.Modules {
		if a.ofHead(mod.Path) {
			a.wholeModule(mod)
		}
	}
	return nil
}

// ofHead reports whether a module belongs to the head of the task.
func (a *Adapter) ofHead(path string) bool {
	return slices.ContainsFunc(a.model.HeadModules, func(h string) bool {
		return path == h || strings.HasPrefix(path, h+".")
	})
}

// wholeModule trains a module as part of the head. Its parameters keep the names
// of PEFT, since other methods on the model may save them too.
func (a *Adapter) wholeModule(mod *model.Module) {
	a.head = append(a.head, peft.WholeModule(mod)...)
}

// headName is the name of a parameter of the head in the file.
func headName(p *nn.Param) string { return strings.TrimPrefix(p.Name, peft.Prefix) }

func (a *Adapter) attach(scale float32) error {
	if scale != 1 && len(a.head) > 0 {
		return fmt.Errorf("a scale of %g cannot apply to the head that the adapter carries: %w", scale, peft.ErrConfig)
	}
	for _, s := range a.sites {
		if err := s.attach(scale); err != nil {
			return err
		}
	}
	return nil
}

func (a *Adapter) param(name string, shape ...int) *nn.Param {
	p := nn.NewParam(name, shape...)
	a.saved = append(a.saved, p)
	return p
}

// freeze keeps a parameter as it is.
func (a *Adapter) freeze(p *nn.Param) {
	p.V.Needs = false
	a.frozen = append(a.frozen, p)
}

func (a *Adapter) twin(name string, p *nn.Param) { a.twins = append(a.twins, twin{name: name, p: p}) }

// Params implements peft.Adapter.
func (a *Adapter) Params() []*nn.Param {
	var out []*nn.Param
	for _, p := range a.saved {
		if !slices.Contains(a.frozen, p) {
			out = append(out, p)
		}
	}
	return append(out, a.head...)
}

// Export implements peft.Exporter.
func (a *Adapter) Export() ([]formats.OutTensor, error) {
	var out []formats.OutTensor
	for _, p := range a.saved {
		out = append(out, peft.OutParam(p))
	}
	for _, p := range a.head {
		o := peft.OutParam(p)
		o.Name = headName(p)
		out = append(out, o)
	}
	for _, w := range a.twins {
		o := peft.OutParam(w.p)
		o.Name = w.name
		out = append(out, o)
	}
	return out, nil
}

// Config implements peft.Adapter.
func (a *Adapter) Config() (json.RawMessage, error) { return a.file.JSON() }

// Info implements peft.Described.
func (a *Adapter) Info() peft.Info { return a.info }

// Summary implements peft.Adapter.
func (a *Adapter) Summary() string { return strings.Join(a.summary, ", ") }

// SaveTo implements peft.Saver: adapter_config.json, adapter.safetensors, and with
// a head head_config.json and model_head.safetensors.
func (a *Adapter) SaveTo(ctx context.Context, path string, files map[string][]byte) error {
	cfg, err := a.Config()
	if err != nil {
		return err
	}
	f, err := formats.ByName("adapters")
	if err != nil {
		return err
	}
	w, ok := f.(formats.AdapterWriter)
	if !ok {
		return fmt.Errorf("format %s cannot write adapters", f.Name())
	}
	out := &formats.OutAdapter{Config: cfg, Files: map[string][]byte{}}
	for name, b := range files {
		out.Files[name] = b
	}
	if len(a.head) > 0 {
		if out.Files[headConfigName], err = a.headConfig(); err != nil {
			return err
		}
	}
	if out.Tensors, err = a.Export(); err != nil {
		return err
	}
	return w.WriteAdapter(ctx, path, out)
}
