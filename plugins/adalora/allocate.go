package adalora

import (
	"slices"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Begin implements peft.Stepper: the schedule follows the length of the run.
func (a *adapter) Begin(_, total int) error {
	c := a.cfg
	if a.Cfg.Raw("tinit") == nil {
		c.TInit = total / 25
		a.Cfg.Set("tinit", c.TInit)
	}
	if a.Cfg.Raw("tfinal") == nil {
		c.TFinal = total / 10
		a.Cfg.Set("tfinal", c.TFinal)
	}
	if c.Alpha <= 0 {
		return tuner.Invalid("lora_alpha is %g: PEFT scales such an adapter otherwise once its ranks were cut; set it above 0 to train", c.Alpha)
	}
	if c.TInit >= total-c.TFinal {
		return tuner.Invalid("tinit is %d and tfinal %d: a run of %d steps leaves none to cut ranks in", c.TInit, c.TFinal, total)
	}
	a.total, c.TotalStep = total, total
	a.Cfg.Set("total_step", total)
	return nil
}

// BeforeUpdate implements peft.Stepper.
func (a *adapter) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper. PEFT counts steps from 0.
func (a *adapter) AfterUpdate(step int) {
	step--
	switch last := a.total - a.cfg.TFinal; {
	case step < last:
		a.watch()
		if step > a.cfg.TInit && step%a.cfg.DeltaT == 0 {
			a.cutTo(a.budget(step))
		}
	case step == last:
		a.cutTo(a.target)
		a.forget()
	default:
		a.apply()
	}
}

// budget is the sum of ranks at a step between the first and the last ones: it
// falls with the third power of the rest of the way.
func (a *adapter) budget(step int) int {
	c := a.cfg
	left := 1 - float64(step-c.TInit)/float64(a.total-c.TFinal-c.TInit)
	return int(float64(a.initial-a.target)*(left*left*left) + float64(a.target))
}

// watch updates what is known about the importance of every number.
func (a *adapter) watch() {
	b1, b2 := float32(a.cfg.Beta1), float32(a.cfg.Beta2)
	for _, s := range a.sites {
		for i, p := range s.params() {
			v, g, mean, spread := p.V.Data, p.V.Grad, s.mean[i].V.Data, s.spread[i].V.Data
			kernels.Parallel(len(v), 1<<14, func(lo, hi int) {
				for j := lo; j < hi; j++ {
					now := abs(v[j] * g[j])
					mean[j] = b1*mean[j] + (1-b1)*now
					spread[j] = b2*spread[j] + (1-b2)*abs(now-mean[j])
				}
			})
		}
	}
}

func abs(x float32) float32 { return max(x, -x) }

func (a *adapter) forget() {
	for _, s := range a.sites {
		for i := range s.mean {
			clear(s.mean[i].V.Data)
			clear(s.spread[i].V.Data)
		}
	}
}

// scores returns the importance of each row: that of its singular value and the
// means of those of its two vectors.
func (s *allocated) scores() []float32 {
	product := func(i, j int) float64 { return float64(s.mean[i].V.Data[j] * s.spread[i].V.Data[j]) }
	r := len(s.kept)
	out := make([]float32, r)
	for k := range r {
		row, column := 0.0, 0.0
		for j := range s.a.V.Cols {
			row += product(0, k*s.a.V.Cols+j)
		}
		for j := range s.b.V.Rows {
			column += product(1, j*r+k)
		}
		vectors := float32(row/float64(s.a.V.Cols)) + float32(column/float64(s.b.V.Rows))
		out[k] = float32(product(2, k)) + vectors
	}
	return out
}

// cutTo masks the least important rows but for budget of them; rows that are as
// important as the last one masked go too.
func (a *adapter) cutTo(budget int) {
	var all []float32
	scores := make([][]float32, len(a.sites))
	for i, s := range a.sites {
		scores[i] = s.scores()
		all = append(all, scores[i]...)
	}
	n := a.initial - budget
	slices.Sort(all)
	for i, s := range a.sites {
		for k, v := range scores[i] {
			s.mask.V.Data[k] = 1
			if n > 0 && v <= all[n-1] {
				s.mask.V.Data[k] = 0
			}
		}
	}
	a.cut.V.Data[0] = 1
	a.apply()
}

// apply sets the singular values of masked rows to zero.
func (a *adapter) apply() {
	if a.cut.V.Data[0] == 0 {
		return
	}
	for _, s := range a.sites {
		for k, m := range s.mask.V.Data {
			if m == 0 {
				s.e.V.Data[k] = 0
			}
		}
	}
}
