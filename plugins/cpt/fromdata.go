package cpt

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// fromData takes its context from the training data.
type fromData struct{ *tuned }

// Calibrate implements peft.Calibrator: the context becomes as many of the first
// examples as fit whole into num_virtual_tokens, the first one cut when none does.
func (f *fromData) Calibrate(_ context.Context, m *model.Model, batches iter.Seq[*model.Batch]) error {
	e := f.context
	room := f.Geometry.Tokens
	var first, all example
	for b := range batches {
		for i := range b.Seqs {
			x := exampleOf(b, i)
			if len(first.tokens) == 0 {
				first = x
			}
			if n := len(x.tokens); n > 1 && n <= room-len(all.tokens) {
				all = all.join(x)
			}
		}
		if len(all.tokens) == room {
			break
		}
	}
	if len(all.tokens) == 0 {
		all = all.join(first.cut(room))
	}
	if len(all.tokens) < 2 {
		return fmt.Errorf("the training data have no example of two tokens or more to make a context of: %w", peft.ErrConfig)
	}
	m.ExtraLabels -= e.labelled
	m.Reserve(len(all.tokens) - room)
	e.Tokens, e.Types, e.Mask, e.begun = all.tokens, all.types, nil, true
	e.lay()
	m.ExtraLabels += e.labelled
	return e.embed()
}

// example is a text with the types of its tokens.
type example struct {
	tokens []int32
	types  []int
}

// exampleOf returns sequence i of a batch. What is trained is its answer, the rest the
// input; of a text that is trained as a whole the first half is the input.
func exampleOf(b *model.Batch, i int) example {
	sp := b.Seqs[i]
	x := example{tokens: slices.Clone(b.Tokens[sp.Start:sp.End])}
	if last := b.Labels[sp.End-1]; last >= 0 { // a batch ends before the last token that is trained
		x.tokens = append(x.tokens, last)
	}
	x.types = slices.Repeat([]int{answer + 4}, len(x.tokens))
	whole := b.First != nil && b.First[i] >= 0
	for k := range x.types {
		if k == 0 && !whole || k > 0 && b.Labels[sp.Start+k-1] < 0 {
			x.types[k], whole = input, false
		}
	}
	if whole {
		for k := range len(x.types) / 2 {
			x.types[k] = input
		}
	}
	return x
}

// join returns x with the tokens of another example behind its own.
func (x example) join(y example) example {
	top := 0
	if len(x.types) > 0 {
		top = slices.Max(x.types)
	}
	x.tokens = append(x.tokens, y.tokens...)
	for _, kind := range y.types {
		x.types = append(x.types, top+kind)
	}
	return x
}

// cut returns n tokens around the place where the answer begins, as many before as
// behind it if there are.
func (x example) cut(n int) example {
	if len(x.tokens) <= n {
		return x
	}
	begins := slices.Index(x.types, answer+4)
	start := min(max(0, begins-n/2), len(x.tokens)-n)
	return example{x.tokens[start : start+n], x.types[start : start+n]}
}
