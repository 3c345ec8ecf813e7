// Package train fits the parameters of an attached method to a data set.
//
// A run is a loop over optimizer steps. Each step takes a window of micro-batches,
// adds up their gradients, clips the sum and applies AdamW. The loss and its
// gradient are means over the trained tokens of the whole window, so that
// accumulation gives what one large batch would. Everything else (metrics,
// checkpoints, validation, progress) is a [Hook] that runs between steps.
//
// The same seed, data and model give the same bytes on any number of threads,
// and whether or not the run was interrupted: a checkpoint holds parameters,
// moments and the position in the data, and masks of dropout depend on seed, step
// and micro-batch alone.
package train

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// Errors that callers can test for.
var (
	// ErrConfig: a setting makes no sense.
	ErrConfig = errors.New("invalid training setting")
	// ErrInterrupted: the context was cancelled; what was done is in the checkpoint.
	ErrInterrupted = errors.New("interrupted")
	// ErrNotFinite: a loss or gradient is infinite or not a number.
	ErrNotFinite = errors.New("not finite")
	// ErrCheckpoint: a checkpoint is missing, broken or in the way.
	ErrCheckpoint = errors.New("checkpoint")
	// ErrDrift: a checkpoint belongs to another run.
	ErrDrift = errors.New("the checkpoint is of another run")
)

// Own in place of a number leaves it to what is trained: the learning rate and the
// weight decay to the adapter's method (a combination's are those of its first
// part), the batch to the task of the data.
const Own = -1

// Config is the setting of a run. Start from [Default]: fields are taken as they
// are, and zero means zero.
type Config struct {
	// Output is the folder for metrics.jsonl and checkpoint-N folders; none are
	// written when it is empty.
	Output string
	// Lock is that of Output, for callers that take it before they load the model;
	// without one, New takes it until the run ends.
	Lock *Lock

	// LearningRate is the highest of the schedule; [Own] is the method's.
	LearningRate float64
	// WeightDecay, Beta1, Beta2 and Eps are AdamW's; a WeightDecay of [Own] is the
	// method's.
	WeightDecay, Beta1, Beta2, Eps float64
	// Clip limits the global norm of the gradient; 0 leaves it as it is.
	Clip float64
	// Schedule is the course of the learning rate after the warm-up.
	Schedule Schedule
	// Warmup is a share of all steps below 1, a number of steps from 1 on.
	Warmup float64
	// MinLR is the share of the learning rate at which the cosine ends.
	MinLR float64

	// Epochs is the number of passes over the data; MaxSteps, when not 0, is the
	// number of optimizer steps instead.
	Epochs   float64
	MaxSteps int
	// BatchSize sequences make a micro-batch, GradAccum micro-batches a step. [Own] is
	// 1 and 8 for causal language models, 16 and 1 for tasks whose batches are whole
	// examples.
	BatchSize, GradAccum int
	// Pack fills sequences with several examples each, up to the data set's
	// MaxSeqLen (or its longest example), none seeing another. Only causal language
	// models pack; the batches of other tasks are whole examples.
	Pack bool
	// Shuffle changes the order of the examples in each epoch.
	Shuffle bool
	Seed    uint64
	// BaseDropout applies the dropout of the model's config.json, as transformers
	// does in training.
	BaseDropout bool

	// SaveSteps is the number of steps between checkpoints, 0 for none but that
	// of an interruption. Keep newest ones stay, all when it is 0.
	SaveSteps, Keep int
	// Valid is evaluated every EvalSteps steps (0: only then) and at the end.
	Valid     *data.Dataset
	EvalSteps int

	// Resume continues from a checkpoint: its folder, or "auto" for the newest
	// one below Output. A run that differs from the one that wrote it is refused.
	Resume string
	// Hooks are called after the built-in ones.
	Hooks []Hook
	// Files are put beside the adapter in each checkpoint.
	Files map[string][]byte
}

// Default returns the settings that peftkit uses unless told otherwise. The learning
// rate, the weight decay and the batch are [Own].
func Default() Config {
	return Config{
		LearningRate: Own, WeightDecay: Own, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Clip: 1,
		Schedule: Cosine, Warmup: 0.05, MinLR: 0.1,
		Epochs: 1, BatchSize: Own, GradAccum: Own, Pack: true, Shuffle: true, Seed: 42, BaseDropout: true,
		SaveSteps: 500, Keep: 2,
	}
}

// For returns the settings of a run of an adapter on a data set: every [Own] is
// replaced by the number that it stands for, and Pack is false where it does not
// apply. [New] does so itself.
func (c Config) For(ad peft.Adapter, ds *data.Dataset) (Config, error) {
	if c.LearningRate == Own || c.WeightDecay == Own {
		info, err := peft.InfoOf(ad)
		if err != nil {
			return c, fmt.Errorf("%w: the learning rate and weight decay are to be the method's own: %w; set both", ErrConfig, err)
		}
		if c.LearningRate == Own {
			c.LearningRate = info.LearningRate
		}
		if c.WeightDecay == Own {
			c.WeightDecay = info.WeightDecay
		}
	}
	batch, accum := 1, 8
	if !ds.Causal() {
		batch, accum = 16, 1
		c.Pack = false
	}
	if c.BatchSize == Own {
		c.BatchSize = batch
	}
	if c.GradAccum == Own {
		c.GradAccum = accum
	}
	return c, nil
}

func (c *Config) check() error {
	for _, v := range []struct {
		name     string
		ok       bool
		v        any
		expected string
	}{
		{"learning rate", c.LearningRate > 0 && c.LearningRate < 1e3, c.LearningRate, "more than 0, such as 2e-4"},
		{"weight decay", c.WeightDecay >= 0 && c.WeightDecay*c.LearningRate < 1, c.WeightDecay, "0 or a small number such as 0.01"},
		{"beta1", c.Beta1 >= 0 && c.Beta1 < 1, c.Beta1, "at least 0 and below 1"},
		{"beta2", c.Beta2 >= 0 && c.Beta2 < 1, c.Beta2, "at least 0 and below 1"},
		{"eps", c.Eps > 0, c.Eps, "more than 0, such as 1e-8"},
		{"clip", c.Clip >= 0, c.Clip, "0 for none, or more"},
		{"warm-up", c.Warmup >= 0, c.Warmup, "a share below 1 or a number of steps"},
		{"lowest share of the learning rate", c.MinLR >= 0 && c.MinLR <= 1, c.MinLR, "0 to 1"},
		{"epochs", c.MaxSteps > 0 || (c.Epochs > 0 && c.Epochs < 1e6), c.Epochs, "more than 0"},
		{"steps", c.MaxSteps >= 0, c.MaxSteps, "0 for whole epochs, or more"},
		{"batch size", c.BatchSize >= 1, c.BatchSize, "at least 1"},
		{"gradient accumulation", c.GradAccum >= 1, c.GradAccum, "at least 1"},
		{"steps between checkpoints", c.SaveSteps >= 0, c.SaveSteps, "0 for none, or more"},
		{"checkpoints to keep", c.Keep >= 0, c.Keep, "0 for all, or more"},
		{"steps between validations", c.EvalSteps >= 0, c.EvalSteps, "0 for the end only, or more"},
	} {
		if !v.ok {
			return fmt.Errorf("%w: %s %v; expected %s", ErrConfig, v.name, v.v, v.expected)
		}
	}
	if c.Resume == Auto && c.Output == "" {
		return fmt.Errorf("%w: resume %q without an output folder to look in", ErrConfig, Auto)
	}
	return c.Schedule.check()
}

// Step is what one optimizer step did.
type Step struct {
	Step  int // 1-based
	Total int // steps of the whole run
	// Epoch counts passes over the data, with a fraction.
	Epoch float64
	// Loss is the mean over the Labels that were trained: of the cross-entropy in
	// nats per token or example, for several labels of the binary cross-entropy per
	// label, for a regression of the squared error.
	Loss         float64
	LearningRate float64
	// GradNorm is the global norm before clipping.
	GradNorm float64
	// Tokens went through the network; Labels were trained.
	Tokens, Labels int
	// Elapsed is the time of this step, ETA the time that is left.
	Elapsed, ETA time.Duration
	Memory       Memory
	// Valid is set when the validation ran after this step.
	Valid *EvalResult
}

// TokensPerSecond returns the speed of the step.
func (s *Step) TokensPerSecond() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Tokens) / s.Elapsed.Seconds()
}

// Result is what a run did.
type Result struct {
	// Steps done in all, Resumed of them before this run.
	Steps, Resumed int
	// Loss is that of the last step, NaN when this run made none.
	Loss float64
	// Tokens and Labels of this run's steps.
	Tokens, Labels int64
	Elapsed        time.Duration
	// Valid is the last validation, nil without one.
	Valid *EvalResult
	// Checkpoint is the newest folder, "" when none was written.
	Checkpoint string
}

// Run trains the adapter, which must be attached to m, on ds. When ctx is
// cancelled it stops within a micro-batch, leaves a checkpoint of the last whole
// step if there is an Output, and returns an error that wraps ErrInterrupted
// beside the result so far.
func Run(ctx context.Context, c Config, m *model.Model, ad peft.Adapter, ds *data.Dataset) (*Result, error) {
	t, err := New(c, m, ad, ds)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return t.Run(ctx)
}
