package model

import (
	"slices"

	"github.com/peftkit/peftkit/nn"
)

// Input returns the place where the tokens of a stack enter, nil when the model
// has no such stack.
func (m *Model) Input(s Stack) *Input {
	for _, in := range m.Inputs {
		if in.Stack == s {
			return in
		}
	}
	return nil
}

// EncoderDecoder reports whether the model reads a source with one stack and
// writes with another.
func (m *Model) EncoderDecoder() bool { return m.Input(Encoder) != nil && m.Input(Decoder) != nil }

// Reread returns the batch with which an encoder-decoder model classifies texts:
// the decoder reads the tokens of the encoder moved on by one place behind the
// token start, and the row of the last of the tokens eos counts, or the last row
// of a text without one (transformers' BART and T5 for sequence classification).
// rows are those of the decoder's batch.
func Reread(text *Batch, start int32, eos []int32) (b *Batch, rows []int32) {
	b = &Batch{Tokens: make([]int32, len(text.Tokens)), Pos: text.Pos, Seqs: text.Seqs, Tasks: text.Tasks, Source: text}
	rows = make([]int32, len(text.Seqs))
	for i, s := range text.Seqs {
		if s.End == s.Start {
			continue
		}
		b.Tokens[s.Start] = start
		copy(b.Tokens[s.Start+1:s.End], text.Tokens[s.Start:])
		rows[i] = int32(s.End - 1)
		for r := s.End - 1; r >= s.Start; r-- {
			if slices.Contains(eos, text.Tokens[r]) {
				rows[i] = int32(r)
				break
			}
		}
	}
	return b, rows
}

// Pick returns the given rows of the tokens of a batch.
func (s *States) Pick(t *nn.Tape, rows []int32) *nn.Var {
	if s.Own != nil {
		own := make([]int32, len(rows))
		for i, r := range rows {
			own[i] = s.Own[r]
		}
		rows = own
	}
	return nn.GatherRows(t, s.X, rows)
}
