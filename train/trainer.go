package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Trainer is a run that can be driven step by step; [Run] does so to the end.
type Trainer struct {
	Config  Config
	Model   *model.Model
	Adapter peft.Adapter
	Data    *data.Dataset
	Opt     *AdamW
	// Total is the number of steps of the run, PerEpoch that of one epoch,
	// Warmup that of the warm-up.
	Total, PerEpoch, Warmup int
	// Notes tells what the user should know about the set-up.
	Notes []string
	// Valid is the last validation.
	Valid *EvalResult
	// Checkpoint is the newest one written or loaded.
	Checkpoint string

	plan    data.Plan
	tape    *nn.Tape
	step    int // steps done
	resumed int
	epoch   int // the epoch that batches holds, -1 before the first
	batches [][]int
	hooks   []Hook
	done    Result
	ids     identity
	lock    *Lock // of the output folder, when it is the trainer's own
	// firsts says that the method lets the model predict first tokens.
	firsts bool
}

// New prepares a run and, when asked to, loads its checkpoint.
func New(c Config, m *model.Model, ad peft.Adapter, ds *data.Dataset) (*Trainer, error) {
	c, err := c.For(ad, ds)
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	t := &Trainer{Config: c, Model: m, Adapter: ad, Data: ds, epoch: -1, tape: nn.NewTape()}
	if err := t.setUp(); err != nil {
		t.lock.Release()
		return nil, err
	}
	return t, nil
}

// setUp takes the output folder, lets the method begin, and finds the steps and the
// state to begin with.
func (t *Trainer) setUp() error {
	c, m, ad, ds := &t.Config, t.Model, t.Adapter, t.Data
	if err := t.take(); err != nil {
		return err
	}
	if err := startTexts(ad, m); err != nil {
		return err
	}
	if s, ok := ad.(peft.DataStarter); ok {
		if err := s.StartData(texts(ds)); err != nil {
			return err
		}
	}
	if err := t.optimizer(); err != nil {
		return err
	}
	if err := t.fits(ds); err != nil {
		return err
	}
	t.plan = data.Plan{BatchSize: c.BatchSize, Pack: c.Pack, Shuffle: c.Shuffle, Seed: c.Seed, MaxTokens: ds.MaxSeqLen}
	if t.plan.MaxTokens == 0 {
		for i := range ds.Examples {
			t.plan.MaxTokens = max(t.plan.MaxTokens, len(ds.Examples[i].Tokens), len(ds.Examples[i].Source))
		}
	}
	t.plan.MaxTokens = min(t.plan.MaxTokens, m.MaxPositions) // of which the method may have taken some since the data were read
	first, err := ds.Epoch(t.plan, 0)
	if err != nil {
		return err
	}
	if len(first) == 0 {
		return fmt.Errorf("%w: the data set is empty", ErrConfig)
	}
	t.PerEpoch = (len(first) + c.GradAccum - 1) / c.GradAccum
	if t.Total = c.MaxSteps; t.Total == 0 {
		t.Total = int(math.Ceil(c.Epochs * float64(t.PerEpoch)))
	}
	t.Warmup = warmupSteps(c.Warmup, t.Total)
	if t.Total < 10 {
		t.Notes = append(t.Notes, fmt.Sprintf("only %d steps: %d examples make %d micro-batches of %d to a step; lower the accumulation, or train more epochs", t.Total, len(ds.Examples), len(first), c.GradAccum))
	}
	if t.Warmup >= t.Total {
		t.Notes = append(t.Notes, fmt.Sprintf("the warm-up takes all %d steps: the learning rate is never reached", t.Total))
	}
	t.firsts = predictsFirst(m, ds)
	if err := t.prepare(); err != nil {
		return err
	}
	return nil
}

// optimizer makes the optimizer of the adapter's parameters, with moments of zero.
func (t *Trainer) optimizer() error {
	c, params := &t.Config, t.Adapter.Params()
	if len(params) == 0 {
		return fmt.Errorf("%w: the adapter has no trainable parameter", ErrConfig)
	}
	t.Opt = NewAdamW(params, c.Beta1, c.Beta2, c.Eps, c.WeightDecay)
	if r, ok := t.Adapter.(peft.Rater); ok {
		for i, p := range params {
			lr, decay := r.Rate(p)
			t.Opt.Rates[i], t.Opt.Decays[i] = lr, t.Opt.Decays[i]*decay
		}
	}
	return nil
}

// predictsFirst reports whether the loss counts the first tokens of texts: a
// method has put rows before them.
func predictsFirst(m *model.Model, ds *data.Dataset) bool {
	for i := range ds.Examples {
		if !ds.Examples[i].TrainFirst || len(ds.Examples[i].Tokens) < 2 {
			continue
		}
		tape := nn.NewTape()
		defer tape.Close()
		one := data.Dataset{Task: ds.Task, Examples: []data.Example{{Tokens: ds.Examples[i].Tokens[:2], Labels: ds.Examples[i].Tokens[:2], TrainFirst: true, Source: ds.Examples[i].Source}}}
		_, n := m.Loss(tape, one.BatchFor(m, []int{0}), 0)
		return n > 1+m.ExtraLabels
	}
	return false
}

// labels counts what the loss of a batch is the sum over, and what it weighs: the loss
// of a step is the sum of the weighted losses divided by the sum of the weights.
func (t *Trainer) labels(b *model.Batch) (n int, weight float64) {
	n, weight = data.Labelled(b), data.Weight(b)
	more := 0
	if t.Data.Causal() {
		more += len(b.Seqs) * t.Model.ExtraLabels
	}
	if t.firsts {
		for _, l := range b.First {
			if l != data.Ignore {
				more++
			}
		}
	}
	return n + more, weight + float64(more)
}

// fits checks that the model can take every example.
func (t *Trainer) fits(ds *data.Dataset) error { return fits(t.Model, ds) }

func fits(m *model.Model, ds *data.Dataset) error {
	if want := m.Options.Task; want != "" && !ds.Causal() && ds.Task != want || ds.Causal() && want != "" && want != model.CausalLM {
		return fmt.Errorf("%w: the data are for task %s, the model has a head for %s", ErrConfig, taskName(ds.Task), want)
	}
	target, source := m.VocabSize, m.VocabSize
	for _, in := range m.Inputs { // a translator may have two vocabularies
		if in.Stack == model.Encoder && ds.Task == model.Seq2SeqLM {
			source = in.Embedding.W.Out
		} else {
			target = in.Embedding.W.Out
		}
	}
	for i := range ds.Examples {
		ex := &ds.Examples[i]
		for _, side := range []struct {
			name   string
			tokens []int32
			vocab  int
		}{{"example", ex.Tokens, target}, {"source", ex.Source, source}} {
			n := len(side.tokens)
			if ds.Task == model.Seq2SeqLM && side.name == "example" {
				n-- // a decoder does not read the last token of its target
			}
			if n > m.MaxPositions {
				return fmt.Errorf("%s:%d: %w: the %s has %d tokens, the model takes at most %d; set a maximum sequence length", ex.File, ex.Line, ErrConfig, side.name, n, m.MaxPositions)
			}
			for _, id := range side.tokens {
				if id < 0 || int(id) >= side.vocab {
					return fmt.Errorf("%s:%d: %w: token %d of the %s is not in the model's vocabulary of %d: the tokenizer is of another model", ex.File, ex.Line, ErrConfig, id, side.name, side.vocab)
				}
			}
		}
	}
	return nil
}

func taskName(t model.Task) model.Task {
	if t == "" {
		return model.CausalLM
	}
	return t
}

// Close frees the memory of the activations, and gives back the output folder.
func (t *Trainer) Close() {
	t.tape.Close()
	t.lock.Release()
}

// Done returns the number of steps done.
func (t *Trainer) Done() int { return t.step }

// Run does all steps that are left.
func (t *Trainer) Run(ctx context.Context) (*Result, error) {
	begin := time.Now()
	t.done = Result{Resumed: t.resumed, Loss: math.NaN()}
	err := t.loop(ctx)
	for _, h := range t.hooks {
		if h.End == nil {
			continue
		}
		if e := h.End(t, err); e != nil && (err == nil || errors.Is(err, ErrInterrupted)) {
			err = errors.Join(err, e)
		}
	}
	t.done.Steps, t.done.Valid, t.done.Checkpoint = t.step, t.Valid, t.Checkpoint
	t.done.Elapsed = time.Since(begin)
	t.lock.Release()
	return &t.done, err
}

func (t *Trainer) loop(ctx context.Context) error {
	for _, h := range t.hooks {
		if h.Start != nil {
			if err := h.Start(t); err != nil {
				return err
			}
		}
	}
	if err := t.begin(ctx); err != nil {
		return err
	}
	var spent time.Duration
	for first := t.step; t.step < t.Total; {
		s, err := t.Step(ctx)
		if err != nil {
			return err
		}
		spent += s.Elapsed
		s.ETA = spent / time.Duration(t.step-first) * time.Duration(t.Total-t.step)
		t.done.Loss = s.Loss
		t.done.Tokens += int64(s.Tokens)
		t.done.Labels += int64(s.Labels)
		for _, h := range t.hooks {
			if h.Step == nil {
				continue
			}
			if err := h.Step(ctx, t, s); err != nil {
				return t.interrupted(ctx, err)
			}
		}
	}
	return nil
}

// calibrate lets a fresh method begin from the data, which may change the sizes of
// its parameters.
func (t *Trainer) calibrate(ctx context.Context) error {
	c, ok := t.Adapter.(peft.Calibrator)
	if !ok {
		return nil
	}
	first, err := t.Data.Epoch(t.plan, 0)
	if err != nil {
		return err
	}
	err = c.Calibrate(ctx, t.Model, func(yield func(*model.Batch) bool) {
		for _, examples := range first {
			if ctx.Err() != nil || !yield(t.Data.BatchFor(t.Model, examples)) {
				return
			}
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return t.interrupted(ctx, err)
	}
	return t.optimizer()
}

// begin lets the method prepare. A run that goes on was calibrated when its
// checkpoint was loaded.
func (t *Trainer) begin(ctx context.Context) error {
	if t.step == 0 {
		if err := t.calibrate(ctx); err != nil {
			return err
		}
	}
	if s, ok := t.Adapter.(peft.Stepper); ok {
		return s.Begin(t.step, t.Total)
	}
	return nil
}

// interrupted turns an error that comes from the cancelled context into ErrInterrupted.
func (t *Trainer) interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w after step %d of %d: %w", ErrInterrupted, t.step, t.Total, context.Cause(ctx))
	}
	return err
}

// window returns the micro-batches of a 0-based step.
func (t *Trainer) window(step int) ([][]int, error) {
	epoch, at := step/t.PerEpoch, step%t.PerEpoch*t.Config.GradAccum
	if epoch != t.epoch {
		b, err := t.Data.Epoch(t.plan, epoch)
		if err != nil {
			return nil, err
		}
		t.epoch, t.batches = epoch, b
	}
	return t.batches[at:min(at+t.Config.GradAccum, len(t.batches))], nil
}

// Step does one optimizer step. After an error the parameters, the moments and
// the position are those of before.
func (t *Trainer) Step(ctx context.Context) (*Step, error) {
	begin := time.Now()
	window, err := t.window(t.step)
	if err != nil {
		return nil, err
	}
	s := &Step{Step: t.step + 1, Total: t.Total, Epoch: float64(t.step+1) / float64(t.PerEpoch)}
	batches := make([]*model.Batch, len(window))
	var weight float64
	for i, examples := range window {
		batches[i] = t.Data.BatchFor(t.Model, examples)
		s.Tokens += len(batches[i].Tokens)
		if src := batches[i].Source; src != nil {
			s.Tokens += len(src.Tokens)
		}
		n, w := t.labels(batches[i])
		s.Labels, weight = s.Labels+n, weight+w
	}
	t.Opt.ZeroGrad()
	var sum float64
	for i, b := range batches {
		if err := ctx.Err(); err != nil {
			return nil, t.interrupted(ctx, err)
		}
		loss, err := t.microBatch(b, i, weight)
		if err != nil {
			return nil, t.blame(s, i, window[i], err)
		}
		sum += loss
	}
	s.Loss = sum / weight
	if p, ok := t.Adapter.(peft.Penalizer); ok {
		s.Loss += p.Penalty()
	}
	s.GradNorm = t.Opt.Clip(t.Config.Clip)
	if !finite(s.GradNorm) {
		return nil, t.blameGradient(s)
	}
	s.LearningRate = t.Config.LearningRate * t.Config.Schedule.Factor(t.step, t.Warmup, t.Total, t.Config.MinLR)
	stepper, _ := t.Adapter.(peft.Stepper)
	if stepper != nil {
		stepper.BeforeUpdate(t.step + 1)
	}
	t.Opt.Update(s.LearningRate)
	t.step++
	if stepper != nil {
		stepper.AfterUpdate(t.step)
	}
	s.Elapsed = time.Since(begin)
	s.Memory = MemoryUse()
	return s, nil
}

// microBatch adds the gradient of the summed loss over weight to the parameters'.
func (t *Trainer) microBatch(b *model.Batch, i int, weight float64) (sum float64, err error) {
	t.tape.Reset()
	t.tape.Train, t.tape.BaseDropout = true, t.Config.BaseDropout
	t.tape.Seed = mix(mix(mix(t.Config.Seed)^uint64(t.step)) ^ uint64(i))
	sum, _ = t.Model.Loss(t.tape, b, float32(1/weight))
	if !finite(sum) {
		return sum, ErrNotFinite
	}
	t.tape.Backward()
	return sum, nil
}

// mix is the output function of SplitMix64: neighbouring inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
