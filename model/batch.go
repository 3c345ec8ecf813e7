package model

import (
	"slices"

	"github.com/peftkit/peftkit/nn"
)

// Batch is one or more token sequences laid end to end without padding.
type Batch struct {
	Tokens []int32
	Pos    []int32   // position of each token in its own sequence
	Seqs   []nn.Span // rows of each sequence
	// Types are BERT's token types, nil when all are 0.
	Types []int32
	// Labels are what to predict, -100 where no loss is wanted, nil when none is
	// wanted at all: for a language model the token that follows each row (already
	// shifted by one), for token classification the class of each row, for sequence
	// classification the class of each sequence.
	Labels []int32
	// Weights, one per label, multiply the loss of each; nil for 1. Only tasks with a
	// label per token have them.
	Weights []float32
	// First holds the label of each sequence's first token, which a language model
	// can only predict when a method puts rows before it; nil for none.
	First []int32
	// Targets, [len(Seqs), labels], replace Labels for multi-label classification
	// (0 or 1) and regression.
	Targets []float32
	// Tasks numbers the task of each sequence, for methods that know several; nil
	// when all are 0.
	Tasks []int32
	// Source is what the encoder of an encoder-decoder model reads: as many
	// sequences as this batch, whose own rows are the decoder's.
	Source *Batch
	// Last, when larger than those of Pos, is the last position of the texts that these
	// rows are a part of: some rotary tables go by the length (longrope).
	Last int32
	// Cache, when set, holds the keys and values of the tokens before this
	// batch's one sequence and receives this batch's.
	Cache *Cache
}

// Sequence returns a batch of one sequence beginning at position pos.
func Sequence(tokens []int32, pos int) *Batch {
	b := &Batch{Tokens: tokens, Seqs: []nn.Span{{Start: 0, End: len(tokens)}}}
	for i := range tokens {
		b.Pos = append(b.Pos, int32(pos+i))
	}
	return b
}

// Rows is a batch on its way into a stack: embedded tokens, and rows that methods
// have put before them.
type Rows struct {
	X     *nn.Var // [rows, hidden size], before positions are added
	Pos   []int32
	Seqs  []nn.Span
	Types []int32 // nil when all are 0
	// Batch is where the tokens come from.
	Batch *Batch
	// own lists the row of each token, nil while rows are tokens. lead is the number
	// of rows before the tokens of a sequence.
	own  []int32
	lead int
	// extra are labels beside the batch's.
	extra extraLabels
}

// extraLabels are rows of the stack beside what they should predict and the weight of
// that in the loss, where each counts for times labels.
type extraLabels struct {
	rows, labels []int32
	weights      []float32
	times        int
}

// Continues reports whether a cache already holds what lies before these rows:
// then nothing more may be put before them.
func (r *Rows) Continues() bool { return r.Batch.Cache != nil && r.Batch.Cache.Len() > 0 }

// Own lists the row of each token of the batch, nil while every row is a token.
func (r *Rows) Own() []int32 { return r.own }

// Tokens reports whether every row is a token of the batch, in its order.
func (r *Rows) Tokens() bool { return r.own == nil }

// Shift moves the positions of all tokens by n, as keys and values that stand
// before the sequences do.
func (r *Rows) Shift(n int) {
	pos := make([]int32, len(r.Pos))
	for i, p := range r.Pos {
		pos[i] = p + int32(n)
	}
	r.Pos = pos
}

// Insert puts the n rows of pre, [n, hidden size], in front of every sequence, or
// [n * sequences, hidden size] with rows for each; tokens move n positions on.
// When the rows continue a cache only the positions move.
func (r *Rows) Insert(t *nn.Tape, pre *nn.Var, n int) {
	if r.Continues() {
		r.Shift(n)
		return
	}
	old, oldPos, oldTypes := r.Seqs, r.Pos, r.Types
	r.X, r.Seqs = nn.InsertRows(t, r.X, old, pre, n)
	r.Pos, r.Types = make([]int32, r.X.Rows), nil
	if oldTypes != nil {
		r.Types = make([]int32, r.X.Rows)
	}
	moved := make([]int32, len(oldPos)) // new row of each old row
	for i, sp := range old {
		for k := range n {
			r.Pos[r.Seqs[i].Start+k] = int32(k)
		}
		for k := sp.Start; k < sp.End; k++ {
			row := r.Seqs[i].Start + n + k - sp.Start
			r.Pos[row], moved[k] = oldPos[k]+int32(n), int32(row)
			if oldTypes != nil {
				r.Types[row] = oldTypes[k]
			}
		}
	}
	if r.own == nil {
		r.own = moved
	} else {
		own := make([]int32, len(r.own))
		for i, row := range r.own {
			own[i] = moved[row]
		}
		r.own = own
	}
	for i, row := range r.extra.rows {
		r.extra.rows[i] = moved[row]
	}
	r.lead += n
}

// Label says what the first rows of every sequence, which [Rows.Insert] has put there,
// should predict: labels[i], -100 for nothing, is the label of row i, and the loss of
// it is multiplied by weights[i]. [Model.Loss] counts each beside the labels of the
// batch; the method adds their number to [Model.ExtraLabels]. Rows that continue a cache
// have none.
func (r *Rows) Label(labels []int32, weights []float32) {
	if r.Continues() {
		return
	}
	for _, sp := range r.Seqs {
		for i, l := range labels {
			if l >= 0 {
				r.extra.rows = append(r.extra.rows, int32(sp.Start+i))
				r.extra.labels, r.extra.weights = append(r.extra.labels, l), append(r.extra.weights, weights[i])
			}
		}
	}
	r.extra.times = 1
}

// States returns the rows of a finished stack for a token task.
func (r *Rows) States(x *nn.Var) *States {
	s := &States{X: x, Own: r.own, extra: r.extra}
	if r.lead > 0 {
		for _, sp := range r.Batch.Seqs {
			before := int32(-1)
			if sp.End > sp.Start {
				before = r.own[sp.Start] - 1
			}
			s.before = append(s.before, before)
		}
	}
	return s
}

// States is what a network hands to its head.
type States struct {
	// X are the rows: of tokens, or of sequences for a sequence task.
	X *nn.Var
	// Own lists the row of each token of the batch, nil when the rows are the tokens.
	Own []int32

	before []int32 // the row before each sequence's first token, nil when there is none
	extra  extraLabels
}

// Behind returns the states of texts that stand behind rows which all of them share and
// which were run once: shared is of a batch of these rows alone. Their last row predicts
// the first token of each text, and they should predict labels as in [Rows.Label], once
// for each text.
func (s *States) Behind(t *nn.Tape, shared *States, b *Batch, labels []int32, weights []float32) *States {
	tokens := s.X.Rows
	out := &States{X: nn.Concat(t, s.X, shared.X), extra: extraLabels{times: len(b.Seqs)}}
	for i := range tokens {
		out.Own = append(out.Own, int32(i))
	}
	for range b.Seqs {
		out.before = append(out.before, int32(out.X.Rows-1))
	}
	for i, l := range labels {
		if l >= 0 {
			out.extra.rows, out.extra.labels = append(out.extra.rows, int32(tokens+i)), append(out.extra.labels, l)
			out.extra.weights = append(out.extra.weights, weights[i]*float32(len(b.Seqs)))
		}
	}
	return out
}

// labelled returns the rows that have labels beside the labels: with rows before
// a sequence, the last of them predicts its first token.
func (s *States) labelled(t *nn.Tape, b *Batch) (*nn.Var, []int32) {
	if s.Own == nil {
		return s.X, b.Labels
	}
	rows, labels := s.labels(b)
	return nn.GatherRows(t, s.X, rows), labels
}

// labels is labelled with the numbers of the rows.
func (s *States) labels(b *Batch) (rows, labels []int32) {
	if s.before == nil || b.First == nil {
		return s.Own, b.Labels
	}
	rows, labels = slices.Clone(s.Own), slices.Clone(b.Labels)
	for i, row := range s.before {
		if row >= 0 && b.First[i] >= 0 {
			rows, labels = append(rows, row), append(labels, b.First[i])
		}
	}
	return rows, labels
}

// weights returns those of n labels, the batch's own and then those of first tokens,
// which weigh 1; nil for 1 everywhere.
func (b *Batch) weights(n int) []float32 {
	if b.Weights == nil {
		return nil
	}
	out := slices.Repeat([]float32{1}, n)
	copy(out, b.Weights)
	return out
}

// loss is the cross-entropy of what is labelled, extra labels included.
func (s *States) loss(t *nn.Tape, b *Batch, head *nn.LinearLayer, gradScale float32) (sum float64, n int) {
	if s.Own == nil || len(s.extra.rows) == 0 {
		x, labels := s.labelled(t, b)
		return nn.WeightedCrossEntropy(t, x, head, labels, b.weights(len(labels)), gradScale)
	}
	e := s.extra
	rows, labels := s.labels(b)
	weights := b.weights(len(rows))
	if weights == nil {
		weights = slices.Repeat([]float32{1}, len(rows))
	}
	weights = append(weights, e.weights...)
	sum, n = nn.WeightedCrossEntropy(t, nn.GatherRows(t, s.X, slices.Concat(rows, e.rows)), head, slices.Concat(labels, e.labels), weights, gradScale)
	return sum, n + (e.times-1)*len(e.rows)
}

// Labelled runs the network and returns the rows that b's labels are about beside
// the labels, for whoever wants the logits of exactly what Loss counts of b: one row
// per token or sequence, and one more for each first token that a method's rows
// predict.
func (m *Model) Labelled(t *nn.Tape, b *Batch) (x *nn.Var, labels []int32) {
	return m.Run(t, b).labelled(t, b)
}

// Input is the place where tokens become rows: methods put rows before them or
// move their positions.
type Input struct {
	Stack     Stack
	Embedding *nn.EmbeddingLayer

	hooks []func(t *nn.Tape, r *Rows)
}

// Forward embeds the tokens of a batch and lets the methods change the rows.
func (in *Input) Forward(t *nn.Tape, b *Batch) *Rows {
	r := &Rows{X: in.Embedding.Forward(t, b.Tokens), Pos: b.Pos, Seqs: b.Seqs, Types: b.Types, Batch: b}
	for _, f := range in.hooks {
		f(t, r)
	}
	return r
}

// Hook attaches a function that changes the rows of every forward pass, the
// first attached first.
func (in *Input) Hook(f func(t *nn.Tape, r *Rows)) { in.hooks = append(in.hooks, f) }

// Detach removes all hooks.
func (in *Input) Detach() { in.hooks = nil }
