package adamss

import (
	"math"
	"slices"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func (c *config) checkASA() error {
	switch {
	case !c.ASA:
		return nil
	case c.Interval < 1:
		return tuner.Invalid("mask_interval is %d, expected 1 or more", c.Interval)
	case c.First >= c.Last:
		return tuner.Invalid("init_warmup is %d and final_warmup %d, expected the first to be smaller", c.First, c.Last)
	case c.Target < 1:
		return tuner.Invalid("asa_target_subspaces is %d, expected 1 or more", c.Target)
	case !(c.Exponent > 0):
		return tuner.Invalid("asa_schedule_exponent is %g, expected a positive number", c.Exponent)
	}
	return nil
}

// adapter is an AdaMSS whose clusters may be frozen while it trains (adaptive
// subspace allocation).
type adapter struct {
	*tuner.Adapter
	cfg *config
	all []*subspace
}

// subspace is a cluster with what is known about the importance of its parameters.
type subspace struct {
	params [2]*nn.Param
	// mean is the smoothed |weight * gradient|, spread the smoothed distance from it.
	mean, spread [2]*nn.Param
	// flags are 1 where it is frozen, and where it has been watched since the last choice.
	flags *nn.Param
}

var (
	_ peft.Stepper  = (*adapter)(nil)
	_ peft.Stateful = (*adapter)(nil)
)

// wrap returns ad, or with use_asa the adapter that freezes its clusters.
func wrap(ad *tuner.Adapter) peft.Adapter {
	a := &adapter{Adapter: ad, cfg: ad.Tuner.(*config)}
	if !a.cfg.ASA {
		return ad
	}
	for _, x := range ad.Sites {
		s := x.(*site)
		for i := range s.a {
			sub := &subspace{params: [2]*nn.Param{s.a[i], s.b[i]}, flags: nn.NewParam(s.a[i].Name+".asa", 2)}
			for k, p := range sub.params {
				sub.mean[k], sub.spread[k] = nn.NewParam(p.Name+".mean", p.Shape...), nn.NewParam(p.Name+".spread", p.Shape...)
			}
			a.all = append(a.all, sub)
		}
	}
	return a
}

// State implements peft.Stateful.
func (a *adapter) State() (out []*nn.Param) {
	for _, s := range a.all {
		out = append(out, s.mean[0], s.spread[0], s.mean[1], s.spread[1], s.flags)
	}
	return out
}

// Begin implements peft.Stepper.
func (a *adapter) Begin(int, int) error {
	for _, s := range a.all {
		s.freeze(s.flags.V.Data[0] != 0)
	}
	return nil
}

// freeze sets whether the parameters of a subspace get gradients.
func (s *subspace) freeze(frozen bool) {
	s.flags.V.Data[0] = 0
	if frozen {
		s.flags.V.Data[0] = 1
	}
	for _, p := range s.params {
		p.V.Needs = !frozen
	}
}

// BeforeUpdate implements peft.Stepper.
func (a *adapter) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper. PEFT counts steps from 0.
func (a *adapter) AfterUpdate(step int) {
	if step--; step < a.cfg.First || step > a.cfg.Last {
		return
	}
	for _, s := range a.all {
		s.watch(float32(a.cfg.Importance), float32(a.cfg.Uncertainty))
	}
	if step%a.cfg.Interval == 0 {
		a.choose(a.goal(step))
		for _, s := range a.all {
			s.forget()
		}
	}
}

// goal is the number of clusters to be trained after a step.
func (a *adapter) goal(step int) int {
	left := 1 - float64(step-a.cfg.First)/float64(a.cfg.Last-a.cfg.First)
	return int(float64(a.cfg.Target) + float64(len(a.all)-a.cfg.Target)*math.Pow(left, a.cfg.Exponent))
}

func (s *subspace) watch(importance, uncertainty float32) {
	if s.flags.V.Data[0] != 0 {
		return
	}
	s.flags.V.Data[1] = 1
	for k, p := range s.params {
		mean, spread := s.mean[k].V.Data, s.spread[k].V.Data
		for i, w := range p.V.Data {
			now := abs(w * p.V.Grad[i])
			spread[i] = uncertainty*spread[i] + (1-uncertainty)*abs(now-mean[i])
			mean[i] = importance*mean[i] + (1-importance)*now
		}
	}
}

func abs(x float32) float32 { return max(x, -x) }

func (s *subspace) forget() {
	s.flags.V.Data[1] = 0
	for k := range s.params {
		clear(s.mean[k].V.Data)
		clear(s.spread[k].V.Data)
	}
}

func (s *subspace) score() (score float32) {
	for k := range s.params {
		sum := 0.0
		for i, m := range s.mean[k].V.Data {
			sum += float64(m * s.spread[k].V.Data[i])
		}
		score += float32(sum / float64(len(s.mean[k].V.Data)))
	}
	return score
}

// choose freezes all watched clusters but those whose importance is above that of
// the goal-th: PEFT compares strictly, which leaves one fewer.
func (a *adapter) choose(goal int) {
	var watched []*subspace
	var scores []float32
	for _, s := range a.all {
		if s.flags.V.Data[1] != 0 {
			watched, scores = append(watched, s), append(scores, s.score())
		}
	}
	if goal >= len(watched) {
		return
	}
	ranked := slices.Sorted(slices.Values(scores))
	limit := ranked[len(ranked)-goal]
	for i, s := range watched {
		s.freeze(scores[i] <= limit)
	}
}
