package data

import (
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Batch lays examples end to end, each a sequence of its own. For a language
// model labels are shifted so that each row has the token that follows it; what
// comes after the last trained token of an example, that token included, would
// only be computed to be thrown away, and is left out.
func (d *Dataset) Batch(examples []int) *model.Batch { return d.batch(examples, false) }

// BatchFor is Batch for a model: for one whose method reads whole texts, tokens that
// nothing is predicted from, the last ones, are in it too.
func (d *Dataset) BatchFor(m *model.Model, examples []int) *model.Batch {
	return d.batch(examples, m.WholeText)
}

func (d *Dataset) batch(examples []int, whole bool) *model.Batch {
	switch d.Task {
	case model.SequenceClassification, model.TokenClassification:
		return d.classes(examples)
	}
	b := &model.Batch{}
	first := false
	for _, i := range examples {
		ex := &d.Examples[i]
		last := len(ex.Labels) - 1
		for last > 0 && ex.Labels[last] == Ignore {
			last--
		}
		if last < 1 {
			continue // nothing to train
		}
		end := last // of the tokens
		if whole {
			end = len(ex.Tokens)
			if d.Task == model.Seq2SeqLM { // the decoder gets the target shifted, without its last token
				end--
			}
		}
		lay(b, ex.Tokens[:end])
		from := len(b.Labels)
		b.Labels = append(b.Labels, ex.Labels[1:min(end+1, len(ex.Labels))]...)
		if end == len(ex.Labels) {
			b.Labels = append(b.Labels, Ignore)
		}
		if ex.Weights != nil && b.Weights == nil {
			b.Weights = slices.Repeat([]float32{1}, from)
		}
		if b.Weights != nil {
			b.Weights = append(b.Weights, ex.shifted(len(b.Labels)-from)...)
		}
		label := Ignore
		if ex.TrainFirst {
			label, first = ex.Tokens[0], true
		}
		b.First = append(b.First, label)
		b.Tasks = append(b.Tasks, ex.Task)
		if d.Task == model.Seq2SeqLM {
			if b.Source == nil {
				b.Source = &model.Batch{}
			}
			lay(b.Source, ex.Source)
		}
	}
	if !first {
		b.First = nil
	}
	known(b)
	if b.Source != nil {
		b.Source.Tasks = b.Tasks
	}
	return b
}

// shifted returns the weights of n labels from the second token on.
func (e *Example) shifted(n int) []float32 {
	out := slices.Repeat([]float32{1}, n)
	if e.Weights != nil {
		copy(out, e.Weights[1:])
	}
	return out
}

// known leaves tasks out that are all the first.
func known(b *model.Batch) {
	if !slices.ContainsFunc(b.Tasks, func(task int32) bool { return task != 0 }) {
		b.Tasks = nil
	}
}

// lay appends a sequence to a batch.
func lay(b *model.Batch, tokens []int32) {
	start := len(b.Tokens)
	b.Tokens = append(b.Tokens, tokens...)
	for p := range tokens {
		b.Pos = append(b.Pos, int32(p))
	}
	b.Seqs = append(b.Seqs, nn.Span{Start: start, End: len(b.Tokens)})
}

// classes is the batch of a classification.
func (d *Dataset) classes(examples []int) *model.Batch {
	b := &model.Batch{}
	typed := false
	for _, i := range examples {
		ex := &d.Examples[i]
		lay(b, ex.Tokens)
		b.Labels = append(b.Labels, ex.Labels...)
		b.Targets = append(b.Targets, ex.Targets...)
		b.Tasks = append(b.Tasks, ex.Task)
		if ex.Types == nil {
			b.Types = append(b.Types, make([]int32, len(ex.Tokens))...)
			continue
		}
		b.Types, typed = append(b.Types, ex.Types...), true
	}
	if !typed {
		b.Types = nil
	}
	known(b)
	return b
}

// Labelled returns the number of labels that a batch carries: of rows, of
// sequences, or of single targets. Those of first tokens are not among them.
func Labelled(b *model.Batch) int {
	n := len(b.Targets)
	for _, l := range b.Labels {
		if l != Ignore {
			n++
		}
	}
	return n
}

// Weight is Labelled with each label counted as much as it weighs.
func Weight(b *model.Batch) float64 {
	if b.Weights == nil {
		return float64(Labelled(b))
	}
	var sum float64
	for i, l := range b.Labels {
		if l != Ignore {
			sum += float64(b.Weights[i])
		}
	}
	return sum
}
