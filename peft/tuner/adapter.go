package tuner

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// attach hooks all sites into the model.
func (a *Adapter) attach(scale float32) error {
	for i, s := range a.Sites {
		if err := s.Attach(scale); err != nil {
			return fmt.Errorf("%s: %w", a.Places[i].Path, err)
		}
	}
	return nil
}

// Params implements peft.Adapter.
func (a *Adapter) Params() []*nn.Param { return a.params }

// Starter is a Tuner that chooses by the training data what it trains, see
// [peft.DataStarter].
type Starter interface {
	StartData(a *Adapter, texts iter.Seq[[]int32]) error
}

// StartData implements peft.DataStarter.
func (a *Adapter) StartData(texts iter.Seq[[]int32]) error {
	if s, ok := a.Tuner.(Starter); ok {
		return s.StartData(a, texts)
	}
	return nil
}

// Saved lists what the file carries: the trained parameters and the buffers.
func (a *Adapter) Saved() []*nn.Param { return a.saved }

// SetTrained says whether a declared parameter is trained.
func (a *Adapter) SetTrained(p *nn.Param, trained bool) {
	a.params = slices.DeleteFunc(a.params, func(q *nn.Param) bool { return q == p })
	if p.V.Needs = trained; trained {
		a.params = append(a.params, p)
	}
}

// Exporter is a Tuner that saves tensors beside the parameters and buffers, such
// as whole numbers; it reads them as a [Loader].
type Exporter interface {
	Export(a *Adapter) []formats.OutTensor
}

// Export implements peft.Exporter.
func (a *Adapter) Export() ([]formats.OutTensor, error) {
	var out []formats.OutTensor
	for _, p := range a.saved {
		out = append(out, peft.OutParam(p))
	}
	if e, ok := a.Tuner.(Exporter); ok {
		out = append(out, e.Export(a)...)
	}
	return append(out, a.kept...), nil
}

// Config implements peft.Adapter. all-linear becomes the names of the modules
// that it chose.
func (a *Adapter) Config() (json.RawMessage, error) {
	if a.byPath {
		for _, key := range []string{"exclude_modules", "layers_to_transform", "layers_pattern"} {
			a.Cfg.Remove(key)
		}
		a.Cfg.SetTargets(peft.Targets{List: a.paths()})
	}
	if a.Cfg.TargetModules.IsAllLinear() {
		a.Cfg.SetTargets(peft.Targets{List: peft.ShortNames(a.paths())})
	}
	return a.Cfg.JSON()
}

func (a *Adapter) paths() []string {
	var out []string
	for _, p := range a.Places {
		out = append(out, p.Path)
	}
	return out
}

// Summary implements peft.Adapter.
func (a *Adapter) Summary() string {
	what := a.facts.Name
	if d, ok := a.Tuner.(Describer); ok {
		what = d.Describe()
	}
	return fmt.Sprintf("%s on %d modules (%s)", what, len(a.Sites), strings.Join(peft.ShortNames(a.paths()), ", "))
}
