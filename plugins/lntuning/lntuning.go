// Package lntuning trains the norms of a network and nothing else (Qi et al.
// 2022, arXiv 2211.08682; Zhao et al. 2023, arXiv 2312.11420). Files are those of
// Hugging Face PEFT's LN_TUNING: full copies of the norms' weights.
package lntuning

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is LN tuning.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "ln-tuning", Aliases: []string{"lntuning", "layernorm"}, PeftType: "LN_TUNING", Group: peft.Selective,
		Doc:          "trains the norms alone",
		Reference:    "Zhao et al. 2023, arXiv 2312.11420",
		LearningRate: 1e-3,
		Options: []peft.Option{
			{Key: "target_modules", Flag: "target-modules", Doc: "norms to train: suffixes or a regular expression; all by default"},
			{Key: "exclude_modules", Doc: "modules to leave alone"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Configure: func(*peft.Config) (tuner.Tuner, error) { return method{}, nil },
	Targets:   targets,
}

// targets names all norms.
func targets(c *peft.Config, m *model.Model) error {
	var paths []string
	for _, mod := range m.Modules {
		if mod.Norm != nil {
			paths = append(paths, mod.Path)
		}
	}
	if paths == nil {
		return fmt.Errorf("ln-tuning: the %s model has no norms: %w", m.Type(), peft.ErrNoFit)
	}
	c.SetTargets(peft.Targets{List: peft.ShortNames(paths)})
	return nil
}

type method struct{}

// Site implements tuner.Tuner.
func (method) Site(p *tuner.Place) (tuner.Site, error) {
	n := p.Mod.Norm
	if n == nil {
		return nil, fmt.Errorf("it is no norm: ln-tuning trains norms, modules_to_save any module in full: %w", peft.ErrConfig)
	}
	s := &site{norm: n, w: p.Param("ln_tuning_layers.weight", n.W.In)}
	if n.Bias != nil {
		s.b = p.Param("ln_tuning_layers.bias", n.Bias.In)
	}
	return s, nil
}

type site struct {
	norm *nn.NormLayer
	w, b *nn.Param
}

// Init implements tuner.Site.
func (s *site) Init(*rand.Rand) error {
	s.norm.W.Row(s.w.V.Data, 0)
	if s.b != nil {
		s.norm.Bias.Row(s.b.V.Data, 0)
	}
	return nil
}

// Attach implements tuner.Site: the norm runs with the copies.
func (s *site) Attach(scale float32) error {
	if scale != 1 {
		return fmt.Errorf("a scale of %g cannot apply to norms that replace the model's own: %w", scale, peft.ErrConfig)
	}
	var bias *nn.Weight
	if s.b != nil {
		bias = &nn.Weight{Name: s.b.Name, Out: 1, In: s.norm.Bias.In, P: s.b}
	}
	own := s.norm.With(&nn.Weight{Name: s.w.Name, Out: 1, In: s.norm.W.In, P: s.w}, bias)
	s.norm.Wrap(func(t *nn.Tape, x *nn.Var, _ func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var { return own.Forward(t, x) })
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, _ float32) { copy(w.Data, s.w.V.Data) }

// MergeBias implements tuner.BiasMerging.
func (s *site) MergeBias(b []float32, _ float32) {
	if s.b != nil {
		copy(b, s.b.V.Data)
	}
}

// NeedsBias implements tuner.BiasMerging.
func (s *site) NeedsBias() bool { return s.b != nil }
