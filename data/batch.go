package data

import (
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Batch lays examples end to end, each a sequence of its own, with labels
// shifted so that each row has the token that follows it. What comes after the
// last trained token of an example, that token included, would only be computed
// to be thrown away, and is left out.
func (d *Dataset) Batch(examples []int) *model.Batch {
	b := &model.Batch{}
	for _, i := range examples {
		ex := &d.Examples[i]
		last := len(ex.Labels) - 1
		for last > 0 && ex.Labels[last] == Ignore {
			last--
		}
		if last < 1 {
			continue // nothing to train
		}
		start := len(b.Tokens)
		b.Tokens = append(b.Tokens, ex.Tokens[:last]...)
		b.Labels = append(b.Labels, ex.Labels[1:last+1]...)
		for p := range last {
			b.Pos = append(b.Pos, int32(p))
		}
		b.Seqs = append(b.Seqs, nn.Span{Start: start, End: len(b.Tokens)})
	}
	return b
}

// Labelled returns the number of rows of a batch that carry a label.
func Labelled(b *model.Batch) int {
	n := 0
	for _, l := range b.Labels {
		if l != Ignore {
			n++
		}
	}
	return n
}
