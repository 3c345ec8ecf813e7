package generate

import (
	"fmt"
	"math"
	"slices"

	"github.com/peftkit/peftkit/model"
)

// plan is what holds for all texts that one call writes.
type plan struct {
	m       *model.Model
	o       Options
	seq2seq bool
	// room is the number of positions that methods leave, vocab what the stack that
	// reads the prompt knows.
	room, vocab int
}

func newPlan(m *model.Model, o Options) (*plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &plan{m: m, o: o, seq2seq: m.EncoderDecoder(), room: m.MaxPositions, vocab: m.VocabSize}
	if t := m.Options.Task; t != "" && !t.Generates() {
		return nil, fmt.Errorf("task %s: %w: it writes no text", t, model.ErrUnsupported)
	}
	if !p.seq2seq {
		return p, nil
	}
	p.vocab = m.Input(model.Encoder).Embedding.W.Out
	if m.Start < 0 || int(m.Start) >= m.VocabSize {
		return nil, fmt.Errorf("the configuration's decoder_start_token_id is missing or not in the vocabulary of %d: %w", m.VocabSize, model.ErrMismatch)
	}
	return p, nil
}

// check returns why a prompt cannot be taken.
func (p *plan) check(prompt []int32) error {
	if len(prompt) == 0 {
		return fmt.Errorf("%w: it has no tokens, and the model's tokenizer adds none", ErrPrompt)
	}
	switch {
	case p.seq2seq && len(prompt) > p.room:
		return fmt.Errorf("%w: it has %d tokens, the encoder takes %d", ErrPrompt, len(prompt), p.room)
	case !p.seq2seq && len(prompt) >= p.room:
		return fmt.Errorf("%w: it has %d tokens, the model takes %d with what it writes", ErrPrompt, len(prompt), p.room)
	}
	for i, id := range prompt {
		if id < 0 || int(id) >= p.vocab {
			return fmt.Errorf("%w: token %d is %d, the vocabulary has %d", ErrPrompt, i+1, id, p.vocab)
		}
	}
	return nil
}

// begin returns how many tokens of a text stand before what is written.
func (p *plan) begin(prompt int) int {
	if p.seq2seq {
		return 1
	}
	return prompt
}

// limit lowers the number of tokens to what there are positions for.
func (p *plan) limit(prompt int) {
	if room := max(p.room-p.begin(prompt), 0); p.o.MaxTokens == 0 || p.o.MaxTokens > room {
		p.o.MaxTokens = room
	}
}

// batch returns the batch of one sequence.
func (p *plan) batch(tokens []int32, pos int) *model.Batch {
	b := model.Sequence(tokens, pos)
	if p.o.Task != 0 {
		b.Tasks = []int32{p.o.Task}
	}
	return b
}

// pick returns the token that follows the written ones, of at most limit, -1 when
// the logits are not numbers. It may change the logits.
func (p *plan) pick(s *sampler, logits []float32, written, limit int) int32 {
	if w := p.m.Writing; w != nil {
		switch {
		case len(w.ForcedEOS) > 0 && written == limit-1:
			return w.ForcedEOS[0]
		case len(w.ForcedBOS) > 0 && written == 0:
			return w.ForcedBOS[0]
		}
		for _, id := range w.Banned {
			if id >= 0 && int(id) < len(logits) {
				logits[id] = float32(math.Inf(-1))
			}
		}
	}
	return s.next(logits)
}

// stops reports whether a token ends the text.
func (p *plan) stops(id int32) bool {
	return slices.Contains(p.o.Stop, id) || p.seq2seq && p.m.Writing != nil && slices.Contains(p.m.Writing.EOS, id)
}
