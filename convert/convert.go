// Package convert turns model and adapter files of one format into another, and
// merges adapters into base models.
//
// Everything is streamed: one tensor at a time, in tiles of a few megabytes, from
// the mapped input to the output, whatever the size of the model. A tensor whose
// type does not change is copied as bytes, at most with its rows in another
// order. What had to be rewritten, substituted or left out is listed in the
// [Report]; what cannot be carried is an error, and then nothing is written.
package convert

import (
	"context"
	"errors"
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// Errors that callers can test for.
var (
	// ErrOption: a format, type or scale that was asked for does not exist or does not fit.
	ErrOption = errors.New("invalid option")
	// ErrOutput: the output path cannot be used.
	ErrOutput = errors.New("unusable output")
	// ErrRange: a value does not fit into the type that was asked for.
	ErrRange = errors.New("value out of range")
	// ErrNotFinite: a tensor holds NaN or infinity where that would spoil the result.
	ErrNotFinite = errors.New("not a finite number")
	// ErrBase: the base model that is needed for names and shapes is not given or does not fit.
	ErrBase = errors.New("base model needed")
)

// Options of all conversions.
type Options struct {
	// To is the name of the output format; "" takes it from the ending of the
	// output path: .gguf is GGUF, everything else a Hugging Face folder.
	To string
	// Type is the storage type of the output's matrices: a name of package tensor
	// ("q8_0"), "keep", "auto", or "", which is auto for conversions and keep for
	// merges. Vectors and norms of a GGUF file are always F32 then.
	Type string
	// Base is the path of the base model, for adapters that have to be renamed.
	Base string
	// Rank, when not 0, writes an adapter of any mergeable method as pairs of factors
	// (LoRA) of at most this rank, the nearest there are; the report tells what they
	// leave out. It needs the base model's weights.
	Rank int
	// DryRun finds out whether a model can be converted or merged, as far as that shows
	// before its numbers are read, and writes nothing.
	DryRun bool
	// Progress, when not nil, is called from one goroutine with the bytes written so far.
	Progress func(done, total int64, tensor string)
}

// Report says what a conversion did.
type Report struct {
	From   string `json:"from"` // format names
	To     string `json:"to"`
	Family string `json:"family,omitempty"`
	// Tensors = Copied (same bytes, rows perhaps in another order) + Reencoded
	// (same values in another type) + Changed (by an adapter).
	Tensors   int `json:"tensors"`
	Copied    int `json:"copied"`
	Reencoded int `json:"reencoded"`
	Changed   int `json:"changed"`
	// Types counts the output's tensors by storage type.
	Types map[string]int `json:"types"`
	// Bytes is the size of the output's tensors.
	Bytes int64 `json:"bytes"`
	// Notes tells everything that was rewritten, substituted or left out.
	Notes []string `json:"notes"`
	// Matched counts the adapters' tensors that found their place, Unmatched
	// lists those that did not (then there is an error, too).
	Matched   int      `json:"matched,omitempty"`
	Unmatched []string `json:"unmatched,omitempty"`
	// MaxDelta is the largest absolute change of a weight before rounding.
	MaxDelta float64 `json:"max_delta,omitempty"`
	// Survived is the share of the update that is still there after rounding to
	// the output type: the projection of the rounded change onto the exact one,
	// 1 for float32. It is 0 when nothing was merged.
	Survived float64 `json:"survived,omitempty"`
	// Residual is the share of the change (Frobenius norm) that factors of
	// Options.Rank leave out.
	Residual float64 `json:"residual,omitempty"`
	// Left lists the parts of a combination that cannot be merged and stay adapters.
	Left []string `json:"left,omitempty"`
	// Adapters tells the same of each adapter.
	Adapters []AdapterReport `json:"adapters,omitempty"`
	// Ignored lists the keys of the adapters' configurations that nothing reads.
	Ignored []peft.IgnoredKey `json:"ignored_keys,omitempty"`
	// PeakBytes is the largest resident memory of the process, mapped files
	// included; 0 where the system does not tell.
	PeakBytes int64 `json:"peak_bytes,omitempty"`
}

// AdapterReport is the part of one adapter in a merge.
type AdapterReport struct {
	Path    string  `json:"path"`
	Scale   float32 `json:"scale"`
	Matched int     `json:"matched"` // tensors of the adapter that found their place
	Changed int     `json:"changed"` // tensors of the model that it changes
}

// File converts src to dst, as an adapter if it is one, otherwise as a model.
func File(ctx context.Context, src, dst string, o Options) (*Report, error) {
	if formats.IsAdapter(src) {
		return Adapter(ctx, src, dst, o)
	}
	return Model(ctx, src, dst, o)
}

// Model converts the model at src, of any registered format, to dst. The output
// appears when it is complete; an error leaves nothing behind.
func Model(ctx context.Context, src, dst string, o Options) (*Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	to, err := modelWriter(o.To, dst)
	if err != nil {
		return nil, err
	}
	if err := checkOutput(dst, src); err != nil {
		return nil, err
	}
	ck, err := model.Open(src)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	j, err := newJob(ctx, ck, to, o)
	if err != nil {
		return nil, err
	}
	if err := j.plan(); err != nil {
		return nil, err
	}
	return j.run(dst)
}

// describe names a tensor in an error.
func describe(name string, err error) error { return fmt.Errorf("tensor %s: %w", name, err) }
