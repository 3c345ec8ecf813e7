// Package bitfit is BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): only the
// biases of linear layers and norms are trained, and the head of a task.
package bitfit

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/selective"
)

func init() { peft.Register(Method) }

// Method is BitFit. The paper searches learning rates from 1e-4 to 1e-3 for BERT;
// this is the upper end, which suits few steps.
var Method = &selective.Method{
	Facts: peft.Info{
		Name: "bitfit", PeftType: "BITFIT", Group: peft.Selective,
		Doc:          "trains the biases alone",
		Reference:    "Ben Zaken et al. 2022, arXiv 2106.10199",
		LearningRate: 1e-3,
		Options: []peft.Option{
			{Key: "target_modules", Flag: "target-modules", Doc: "modules whose bias is trained: suffixes or a regular expression; all by default"},
			{Key: "exclude_modules", Doc: "modules to leave alone"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Choose: choose,
}

func choose(c *peft.Config, m *model.Model) ([]*nn.Param, string, error) {
	var out []*nn.Param
	n := 0
	for _, mod := range m.Modules {
		b := mod.Bias()
		if b == nil || c.Saves(mod.Path) {
			continue
		}
		if !c.TargetModules.Empty() || !c.ExcludeModules.Empty() {
			hit, err := hits(c, mod)
			if err != nil {
				return nil, "", err
			}
			if !hit {
				continue
			}
		}
		p := selective.Save(b, mod.Path, "bias")
		out = append(out, p)
		n += len(p.V.Data)
	}
	if len(out) == 0 {
		return nil, "", fmt.Errorf("bitfit: the %s model has no biases there to train; ln-tuning trains its norms, lora any linear layer: %w", m.Type(), peft.ErrNoFit)
	}
	return out, fmt.Sprintf("%d biases, %d weights", len(out), n), nil
}

func hits(c *peft.Config, mod *model.Module) (bool, error) {
	if !c.TargetModules.Empty() {
		return c.Hits(mod)
	}
	out, err := c.ExcludeModules.Match(mod.Path)
	return !out, err
}
