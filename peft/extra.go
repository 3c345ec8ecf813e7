package peft

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// What an [Adapter] may do beside having parameters. Each interface is optional.

// Exporter is implemented by adapters whose saved tensors are not, one for one,
// their trained parameters: an encoder of which only the output is kept, frozen
// projections that are shared, ranks that were pruned.
type Exporter interface {
	Export() ([]formats.OutTensor, error)
}

// Described is implemented by adapters that know the facts of the method that made
// them. Presets need it: their files are another method's.
type Described interface {
	Info() Info
}

// InfoOf returns the facts of the method that made an adapter: those that the
// adapter tells, else those of the method that its configuration names.
func InfoOf(ad Adapter) (Info, error) {
	if d, ok := ad.(Described); ok {
		return d.Info(), nil
	}
	raw, err := ad.Config()
	if err != nil {
		return Info{}, err
	}
	m, err := MethodOf(&formats.Adapter{Path: "the adapter", Config: raw})
	if err != nil {
		return Info{}, err
	}
	return m.Info(), nil
}

// Rater is implemented by adapters whose parameters do not all learn at the same
// rate (LoRA+, combinations).
type Rater interface {
	// Rate returns what the learning rate and the weight decay are multiplied with
	// for a parameter.
	Rate(p *nn.Param) (lr, decay float64)
}

// Stateful is implemented by adapters that remember more than their parameters
// from step to step (AdaLoRA's running importance). The values are kept in
// checkpoints; none wants a gradient.
type Stateful interface {
	State() []*nn.Param
}

// Stepper is implemented by adapters that act between steps of the optimizer.
type Stepper interface {
	// Begin is called before the first step of a run of total steps, done of which
	// were made before.
	Begin(done, total int) error
	// BeforeUpdate is called when the gradients of step (from 1) are complete and
	// clipped, AfterUpdate when the parameters were changed; the gradients are still
	// there.
	BeforeUpdate(step int)
	AfterUpdate(step int)
}

// Penalizer is implemented by adapters that add to the loss.
type Penalizer interface {
	// Penalty returns the addition and adds its gradient to the parameters'. It is
	// called once per step.
	Penalty() float64
}

// Calibrator is implemented by adapters that begin from data (EVA).
type Calibrator interface {
	// Calibrate sets the parameters of a fresh adapter. batches runs over the
	// training data in the order of the first epoch.
	Calibrate(ctx context.Context, m *model.Model, batches iter.Seq[*model.Batch]) error
}

// DataStarter is implemented by adapters that choose what they train by the
// training data (the tokens that occur).
type DataStarter interface {
	// StartData is called before the optimizer of a run is made. texts runs over the
	// tokens of the examples, sources of encoder-decoder models included. An adapter
	// that has chosen does nothing.
	StartData(texts iter.Seq[[]int32]) error
}

// TextStarter is implemented by adapters that begin from the tokens of texts:
// methods know no tokenizer, so the trainer gives them, unless whoever made a fresh
// adapter did.
type TextStarter interface {
	// StartTexts lists the texts whose tokens are wanted, as a user wrote them; none
	// once they were given.
	StartTexts() []string
	// StartTokens takes the tokens of each text, special tokens included.
	StartTokens(tokens [][]int32) error
}

// Sizer is implemented by methods that know what a fresh adapter would train
// without the work of beginning it (decompositions of every weight).
type Sizer interface {
	// Size returns the number of trained parameters, or the error of New. m is built
	// for this call: it is of no use afterwards.
	Size(m *model.Model, o Options, seed uint64) (int64, error)
}

// Saver is implemented by adapters that are not saved as a Hugging Face PEFT
// folder.
type Saver interface {
	// SaveTo writes the adapter to a folder, whole or not at all. files are to be
	// put beside it.
	SaveTo(ctx context.Context, path string, files map[string][]byte) error
}

// Recogniser is implemented by methods whose saved configuration has no
// peft_type.
type Recogniser interface {
	Recognises(config json.RawMessage) bool
}

// Tasker is implemented by methods whose files say elsewhere than in task_type
// what the adapter's head is for.
type Tasker interface {
	OptionsFor(a *formats.Adapter) (model.Options, error)
}
