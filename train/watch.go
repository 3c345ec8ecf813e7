package train

import (
	"fmt"
	"math"
	"strings"

	"github.com/peftkit/peftkit/nn"
)

// blame names the examples of a micro-batch whose loss is not finite: each is
// computed again alone.
func (t *Trainer) blame(s *Step, i int, examples []int, err error) error {
	t.tape.Close()
	var guilty []string
	tape := nn.NewTape()
	defer tape.Close()
	for _, e := range examples {
		tape.Reset()
		b := t.Data.BatchFor(t.Model, []int{e})
		if sum, _ := t.Model.Loss(tape, b, 0); !finite(sum) {
			guilty = append(guilty, t.place(e))
		}
	}
	alone := ""
	if len(guilty) == 0 {
		alone = ", none alone"
		for _, e := range examples {
			guilty = append(guilty, t.place(e))
		}
	}
	const most = 5
	if len(guilty) > most {
		guilty = append(guilty[:most], fmt.Sprintf("%d more", len(guilty)-most))
	}
	return fmt.Errorf("step %d, micro-batch %d: the loss is %w (examples %s%s); %s", s.Step, i+1, err, strings.Join(guilty, ", "), alone, remedy)
}

const remedy = "lower the learning rate, or check the base model's weights"

func (t *Trainer) place(example int) string {
	ex := &t.Data.Examples[example]
	return fmt.Sprintf("%s:%d", ex.File, ex.Line)
}

// blameGradient names the first parameter whose gradient is not finite.
func (t *Trainer) blameGradient(s *Step) error {
	for _, p := range t.Opt.Params {
		for _, g := range p.V.Grad {
			if !finite(float64(g)) {
				return fmt.Errorf("step %d: the gradient of %s is %w (loss %g); %s", s.Step, p.Name, ErrNotFinite, s.Loss, remedy)
			}
		}
	}
	return fmt.Errorf("step %d: the norm of the gradient is %w: %g overflows (loss %g); %s", s.Step, ErrNotFinite, math.Inf(1), s.Loss, remedy)
}
