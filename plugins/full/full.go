// Package full is fine-tuning of every weight, the yardstick of all other
// methods. A saved adapter holds the whole model; peftkit merge-lora makes a
// model file of it.
package full

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/selective"
)

func init() { peft.Register(Method) }

// Method is full fine-tuning, with the learning rate of the fine-tuning recipes
// of the BERT paper (arXiv 1810.04805) and T5's successors: 5e-5.
var Method = &selective.Method{
	Facts: peft.Info{
		Name: "full", Aliases: []string{"full-fine-tuning", "fine-tuning"}, PeftType: "FULL", Group: peft.Selective,
		Doc:          "trains every weight: the yardstick, with the memory of four models",
		Reference:    "Devlin et al. 2019, arXiv 1810.04805",
		LearningRate: 5e-5, WeightDecay: 0.01,
	},
	Choose: choose,
}

func choose(_ *peft.Config, m *model.Model) ([]*nn.Param, string, error) {
	var out []*nn.Param
	n := 0
	for _, mod := range m.Modules {
		// A tied head is the embedding: it is listed once, under the embedding's name.
		w := mod.Weight()
		if w.P == nil || !slices.Contains(out, w.P) {
			out = append(out, selective.Save(w, mod.Path, "weight"))
		}
		if b := mod.Bias(); b != nil {
			out = append(out, selective.Save(b, mod.Path, "bias"))
		}
	}
	for _, p := range out {
		n += len(p.V.Data)
	}
	return out, fmt.Sprintf("all %d tensors, %d weights", len(out), n), nil
}
