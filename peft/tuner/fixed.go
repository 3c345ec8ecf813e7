package tuner

import (
	"slices"
	"sync"

	"github.com/peftkit/peftkit/nn"
)

// Fixed holds what a merge computes once and then applies row by row, when nothing
// trains any more. It may be used from several goroutines.
type Fixed struct {
	once sync.Once
	vars []*nn.Var
}

// Of returns what compute gave when it was first called, as constants.
func (f *Fixed) Of(compute func(t *nn.Tape) []*nn.Var) []*nn.Var {
	f.once.Do(func() {
		t := nn.NewTape()
		defer t.Close()
		for _, v := range compute(t) {
			f.vars = append(f.vars, Constant(slices.Clone(v.Mat().Data), v.Rows, v.Cols))
		}
	})
	return f.vars
}
