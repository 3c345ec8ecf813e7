package train

import "context"

// Hook observes a run. Any function may be nil; an error from Start or Step ends
// the run.
type Hook struct {
	// Start is called before the first step, after a checkpoint was loaded.
	Start func(t *Trainer) error
	// Step is called after each optimizer step.
	Step func(ctx context.Context, t *Trainer, s *Step) error
	// End is called once, with the error that ended the run or nil. Its own
	// error is reported when the run had none.
	End func(t *Trainer, err error) error
}

// Progress calls f after each step.
func Progress(f func(s *Step)) Hook {
	return Hook{Step: func(_ context.Context, _ *Trainer, s *Step) error {
		f(s)
		return nil
	}}
}
