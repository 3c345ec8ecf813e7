package lora

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// LoftQ (Li et al. 2023, arXiv 2310.08659) trains on quantised weights and begins
// with what quantisation took from them. It has two forms.
//
// With the model alone, which then is one of whole numbers, the method quantises
// the layers that it adapts, in memory, and takes the singular value decomposition
// of what they lost as A and B, divided by the scale; with loftq_iter above 1 it
// quantises again what A and B leave. That is init_lora_weights loftq of PEFT, whose
// files say so: on loading the base is quantised again, to the same values where
// loftq_iter is 1.
//
// With loftq_base the model is a quantised one, of any kind, and loftq_base what it
// was made of: the paper's alternation with the quantised weights fixed, as PEFT's
// replace_lora_weights_loftq. The adapter is an ordinary one of the quantised model.

// loftqConfig is LoftQConfig of PEFT.
type loftqConfig struct {
	Bits int `json:"loftq_bits"`
	Iter int `json:"loftq_iter"`
}

// checkLoftQ reads loftq_config and stores its defaults.
func (c *config) checkLoftQ() error {
	if !c.requantises() {
		return nil
	}
	c.loftq = loftqConfig{Bits: 4, Iter: 1}
	if raw := c.common.Raw("loftq_config"); raw != nil && string(raw) != "{}" {
		c.asked = true
		if err := json.Unmarshal(raw, &c.loftq); err != nil {
			return tuner.Invalid("loftq_config: %w", err)
		}
	}
	c.common.Set("loftq_config", c.loftq)
	switch {
	case c.loftq.Bits != 4 && c.loftq.Bits != 8:
		return tuner.Invalid("loftq_config: loftq_bits is %d, expected 4 (NormalFloat4) or 8, as in PEFT", c.loftq.Bits)
	case c.loftq.Iter < 1 || c.loftq.Iter > 100:
		return tuner.Invalid("loftq_config: loftq_iter is %d, expected 1 to 100", c.loftq.Iter)
	case c.LoraBias:
		return tuner.Invalid("init_lora_weights loftq and lora_bias exclude each other")
	}
	return nil
}

// requantises says that beginning quantises the base.
func (c *config) requantises() bool { return c.initKind == initLoftQ && c.FloatBase == "" }

// Check implements tuner.Checker.
func (c *config) Check() error {
	if !c.requantises() || c.asked {
		return nil
	}
	for _, s := range c.sites {
		if w := s.at.Mod.Weight(); s.at.Mod.Linear != nil && w.Frozen != nil && w.Frozen.Block > 1 {
			return fmt.Errorf("the model is quantised already: loftq begins with what that took, which is known from the model before quantisation, --set loftq_base=MODEL; or train on that model itself; lora fits the quantised model as it is; to quantise it once more, give loftq_config: %w", peft.ErrNoFit)
		}
	}
	return nil
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error {
	if c.initKind != initLoftQ {
		return nil
	}
	if c.FloatBase == "" {
		return c.Check()
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
	if err := s.Check(); err != nil {
		return false, err
	}
	q := s.at.Weight()
	for i := range w.Data {
		w.Data[i] -= q.Data[i]
		s.fitted = s.fitted || w.Data[i] != 0
	}
	if !s.fitted {
		return false, nil // stored whole: begins as plain LoRA does
	}
	u, sigma, vt, err := leading(w, s.rank)
	if err != nil {
		return false, err
	}
	s.split(u, sigma, vt, s.scale)
	return true, nil
}

// Sides up to exactSide are decomposed exactly. What quantisation takes is nearly
// noise, whose singular values lie so close together that others of these would do
// as well, and an exact decomposition takes seconds for each layer.
const (
	exactSide       = 256
	loftqIterations = 8
)

// leading returns the first singular triplets of w.
func leading(w kernels.Mat, rank int) (u, sigma, vt []float32, err error) {
	if min(w.Rows, w.Cols) <= exactSide {
		return exact(w, rank)
	}
	return powers(w, rank, loftqIterations)
}

// alternate quantises w, and again what the first triplets of the loss leave of it.
// It returns the quantised matrix and the triplets of what that lost; the last ones,
// which the matrix does not depend on, only if asked for.
func (c loftqConfig) alternate(w kernels.Mat, rank int, last bool) (q *coarse, u, sigma, vt []float32, err error) {
	rest := kernels.MatOf(slices.Clone(w.Data), w.Rows, w.Cols)
	for i := 1; ; i++ {
		q = quantised(rest, c.Bits)
		if i == c.Iter && !last {
			return q, nil, nil, nil, nil
		}
		lost := q.mat()
		for k, v := range w.Data {
			lost.Data[k] = v - lost.Data[k]
		}
		if u, sigma, vt, err = leading(lost, rank); err != nil || i == c.Iter {
			return q, u, sigma, vt, err
		}
		left := kernels.MatOf(slices.Clone(u), w.Rows, rank)
		for o := range w.Rows {
			for k, v := range sigma[:rank] {
				left.Data[o*rank+k] *= v
			}
		}
		kernels.Gemm(rest, false, kernels.Term{A: left, B: kernels.MatOf(vt, rank, w.Cols)})
		for k, v := range w.Data {
			rest.Data[k] = v - rest.Data[k]
		}
	}
}

// requantised is a linear layer whose base weight LoftQ quantises.
type requantised struct {
	to       *linear
	replaced bool
}

// requantise makes the site of a linear layer.
func requantise(s *linear) (tuner.Site, error) {
	w := s.at.Mod.Weight()
	for _, m := range s.at.Model.Modules {
		if m != s.at.Mod && m.Norm == nil && m.Weight() == w {
			return nil, fmt.Errorf("it shares its weight with %s, which init_lora_weights loftq would quantise too; leave it out of target_modules: %w", m.Path, peft.ErrConfig)
		}
	}
	if w.P != nil {
		return nil, fmt.Errorf("another method trains its weight, which init_lora_weights loftq quantises: %w", peft.ErrConfig)
	}
	return &requantised{to: s}, nil
}

// Check implements tuner.Checker.
func (r *requantised) Check() error { return r.to.Check() }

// Init implements tuner.Site.
func (r *requantised) Init(rng *rand.Rand) error {
	s := r.to
	if err := s.Check(); err != nil {
		return err
	}
	q, u, sigma, vt, err := s.cfg.loftq.alternate(s.at.Weight(), s.rank, true)
	if err != nil {
		return err
	}
	if s.fitted = sigma[0] > 0; s.fitted { // else nothing was lost: begins as plain LoRA
		s.split(u, sigma, vt, s.scale)
	}
	r.replace(q)
	return s.Init(rng)
}

// replace gives the layer the quantised weight.
func (r *requantised) replace(q *coarse) {
	m := r.to.at.Mod
	w := m.Weight()
	m.SetWeight(&nn.Weight{Name: w.Name, Out: w.Out, In: w.In, Conv1D: w.Conv1D || w.Transposed, Frozen: q.weight()})
	r.replaced = true
}

// Attach implements tuner.Site.
func (r *requantised) Attach(scale float32) error {
	if !r.replaced { // read from a file
		q, _, _, _, err := r.to.cfg.loftq.alternate(r.to.at.Weight(), r.to.rank, false)
		if err != nil {
			return err
		}
		r.replace(q)
	}
	return r.to.Attach(scale)
}

// Merge implements tuner.Merging: what quantisation takes, and A and B.
func (r *requantised) Merge(w kernels.Mat, scale float32) {
	s := r.to
	base := s.at.Weight()
	q, _, _, _, err := s.cfg.loftq.alternate(base, s.rank, false)
	if err != nil {
		return // not finite, as the weights themselves are
	}
	coarse := q.mat()
	for o := range w.Rows {
		row, was, is := w.Row(o), base.Row(o), coarse.Row(o)
		for i := range row {
			row[i] = row[i] - was[i] + is[i]
		}
	}
	s.MergeRows(w, 0, w.Rows, scale)
}
