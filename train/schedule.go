package train

import (
	"fmt"
	"math"
)

// Schedule is the course of the learning rate. All begin with a linear warm-up
// from 0 and have the values of the functions of the same meaning in
// transformers' optimization.py, where step 0 is the first.
type Schedule string

// The schedules.
const (
	Cosine   Schedule = "cosine"   // half a cosine down to the lowest share (get_cosine_with_min_lr_schedule_with_warmup)
	Linear   Schedule = "linear"   // straight down to 0 (get_linear_schedule_with_warmup)
	Constant Schedule = "constant" // no change (get_constant_schedule_with_warmup)
)

func (s Schedule) check() error {
	switch s {
	case Cosine, Linear, Constant:
		return nil
	}
	return fmt.Errorf("%w: schedule %q; expected %s, %s or %s", ErrConfig, s, Cosine, Linear, Constant)
}

// Factor returns what the learning rate is multiplied by at a 0-based step of
// total steps, warmup of them for warming up. lowest is the share at which the
// cosine ends.
func (s Schedule) Factor(step, warmup, total int, lowest float64) float64 {
	if step < warmup {
		return float64(step) / float64(max(1, warmup))
	}
	switch s {
	case Linear:
		return math.Max(0, float64(total-step)/float64(max(1, total-warmup)))
	case Cosine:
		progress := float64(step-warmup) / float64(max(1, total-warmup))
		return math.Max(0, 0.5*(1+math.Cos(math.Pi*progress))*(1-lowest)+lowest)
	}
	return 1
}

// warmupSteps turns a share of all steps into a number of steps, rounded up as
// transformers' Trainer does. But the first step of a warm-up has rate 0, so a
// share that is not even one step is none: a short run must not idle.
func warmupSteps(warmup float64, total int) int {
	if warmup < 1 {
		if warmup*float64(total) < 1 {
			return 0
		}
		return int(math.Ceil(warmup * float64(total)))
	}
	return int(warmup)
}
