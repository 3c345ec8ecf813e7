package lora

import (
	"fmt"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// LoftQ (Li et al. 2023, arXiv 2310.08659) begins with what quantisation took from
// the weights. The base is any quantised model, so what it lost is known exactly
// from the model that it was made of: A and B are the singular value decomposition
// of the difference, divided by the scale. That is the paper's alternation with
// the quantised weights fixed, as PEFT's replace_lora_weights_loftq does it; the
// adapter is an ordinary one of the quantised model.

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error {
	if c.initKind != initLoftQ {
		return nil
	}
	if c.FloatBase == "" {
		return fmt.Errorf("init_lora_weights loftq begins with what quantisation took: it needs a quantised model and the one that it was made of, --set loftq_base=MODEL; without that one plain LoRA fits: %w", peft.ErrNoFit)
	}
	ck, err := model.Open(c.FloatBase)
	if err != nil {
		return fmt.Errorf("loftq_base: %w", err)
	}
	defer ck.Close()
	var options model.Options
	if len(c.sites) > 0 {
		options = c.sites[0].at.Model.Options
	}
	m, err := model.Build(ck, options)
	if err != nil {
		return fmt.Errorf("loftq_base: %w", err)
	}
	modules := map[string]*model.Module{}
	for _, mod := range m.Modules {
		modules[mod.Path] = mod
	}
	lost := false
	for _, s := range c.sites {
		if s.at.Mod.Linear == nil {
			continue
		}
		whole := modules[s.at.Path]
		if whole == nil || whole.Linear == nil || whole.Weight().Out != s.at.Out || whole.Weight().In != s.at.In {
			return fmt.Errorf("loftq_base: %s has no weight [%d,%d] of %s: %w", c.FloatBase, s.at.Out, s.at.In, s.at.Path, peft.ErrNoMatch)
		}
		some, err := s.fitQuantised((&tuner.Place{Path: s.at.Path, Mod: whole, Out: s.at.Out, In: s.at.In}).Weight())
		if err != nil {
			return fmt.Errorf("%s: %w", s.at.Path, err)
		}
		lost = lost || some
	}
	if !lost {
		return fmt.Errorf("init_lora_weights loftq: the model has the very weights of %s, nothing was lost that LoRA could begin with; train on a quantised model: %w", c.FloatBase, peft.ErrNoFit)
	}
	return nil
}

// fitQuantised sets A and B to the nearest of what the base lost against w, and
// reports whether it lost anything.
func (s *site) fitQuantised(w kernels.Mat) (bool, error) {
	if s.scale <= 0 || s.rank > min(s.at.In, s.at.Out) {
		return false, fmt.Errorf("init_lora_weights loftq: rank %d and scale %g do not fit a weight [%d,%d]: %w", s.rank, s.scale, s.at.Out, s.at.In, peft.ErrConfig)
	}
	q := s.at.Weight()
	for i := range w.Data {
		w.Data[i] -= q.Data[i]
		s.fitted = s.fitted || w.Data[i] != 0
	}
	if !s.fitted {
		return false, nil // stored whole: begins as plain LoRA does
	}
	u, sigma, vt, err := linalg.TruncatedSVD(w.Data, w.Rows, w.Cols, s.rank)
	if err != nil {
		return false, err
	}
	s.split(u, sigma, vt, s.scale)
	return true, nil
}
