// Package lastlayer trains the last layers of a network in full, with the final
// norm and the head of a task, and leaves the rest alone: the classic way of
// fine-tuning (for BERT and GPT-2 see Lee et al. 2019, arXiv 1911.03090).
package lastlayer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/selective"
)

func init() { peft.Register(Method) }

// Method is last-layer tuning.
var Method = &selective.Method{
	Facts: peft.Info{
		Name: "last-layer", Aliases: []string{"lastlayer"}, PeftType: "LAST_LAYER", Group: peft.Selective,
		Doc:          "trains the last layers in full",
		Reference:    "Lee et al. 2019, arXiv 1911.03090",
		LearningRate: 2e-4, WeightDecay: 0.01,
		Options: []peft.Option{
			{Key: "num_layers", Flag: "layers", Default: 1, Doc: "how many layers, counted from the end"},
			{Key: "modules_to_save", Doc: "more modules to train in full"},
		},
	},
	Choose: choose,
}

func choose(c *peft.Config, m *model.Model) ([]*nn.Param, string, error) {
	cfg := struct {
		N int `json:"num_layers"`
	}{1}
	if err := c.Decode(&cfg); err != nil {
		return nil, "", err
	}
	if cfg.N < 1 {
		return nil, "", fmt.Errorf("num_layers is %d, expected at least 1: %w", cfg.N, peft.ErrConfig)
	}
	if len(m.Sublayers) == 0 {
		return nil, "", fmt.Errorf("last-layer: the %s model lists no layers: %w", m.Type(), peft.ErrNoFit)
	}
	var layers []string // of the stack that the head reads, in order
	for _, s := range m.Sublayers {
		if s.Stack == m.Sublayers[len(m.Sublayers)-1].Stack && !slices.Contains(layers, s.LayerPath()) {
			layers = append(layers, s.LayerPath())
		}
	}
	if cfg.N > len(layers) {
		return nil, "", fmt.Errorf("num_layers is %d, the model has %d: %w", cfg.N, len(layers), peft.ErrConfig)
	}
	last := layers[len(layers)-cfg.N:]
	var out []*nn.Param
	n, inside := 0, false
	for _, mod := range m.Modules {
		in := slices.ContainsFunc(last, func(l string) bool { return strings.HasPrefix(mod.Path, l+".") })
		inside = inside || in
		// The final norm stands behind the last layer.
		if !in && !(inside && mod.Norm != nil) || c.Saves(mod.Path) {
			continue
		}
		out = append(out, selective.Save(mod.Weight(), mod.Path, "weight"))
		if b := mod.Bias(); b != nil {
			out = append(out, selective.Save(b, mod.Path, "bias"))
		}
	}
	for _, p := range out {
		n += len(p.V.Data)
	}
	return out, fmt.Sprintf("%s in full, %d tensors, %d weights", strings.Join(last, ", "), len(out), n), nil
}
