package prompts

import (
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// AttachRows puts the first Tokens rows of the embeddings before every text: of
// the encoder in an encoder-decoder model, where PEFT saves as many rows again
// and never uses them.
func AttachRows(a *Adapter) error {
	return AttachLabelledRows(a, func() ([]int32, []float32) { return nil, nil })
}

// AttachLabelledRows is [AttachRows] for rows that are predicted too: predicts returns
// what [model.Rows.Label] takes.
func AttachLabelledRows(a *Adapter, predicts func() (labels []int32, weights []float32)) error {
	l := &leading{a: a, predicts: predicts}
	a.Model.Inputs[0].Hook(l.enter)
	if len(a.Model.Blocks) > 0 && a.Model.Options.Task != model.SequenceClassification && a.Model.Options.Task != model.TokenClassification {
		l.share()
	}
	return nil
}

// leading are the rows before the texts.
//
// What a decoder computes for them does not depend on the text behind. For a batch of
// several texts they are run once, alone, and their keys and values stand before those of
// every text: the same numbers for less (the base's dropout is drawn once for them then).
// That is left where another method would see other rows than with the rows inserted
// before each text.
type leading struct {
	a        *Adapter
	predicts func() (labels []int32, weights []float32)

	pass    pass
	crowded bool // another method puts rows or keys there too
	keys    map[*model.Attention][2]*nn.Var
}

type pass int

const (
	inserted pass = iota // before each text
	alone                // the rows themselves
	behind               // the texts
)

// enter is the hook of the input.
func (l *leading) enter(t *nn.Tape, r *model.Rows) {
	n := l.a.Geometry.Tokens
	switch {
	case l.pass == alone:
		l.crowded = l.crowded || !r.Tokens()
		r.X = Part(t, l.a.Encoder.Forward(t), 0, n)
	case l.pass == behind || r.Continues():
		r.Shift(n)
	default:
		r.Insert(t, Part(t, l.a.Encoder.Forward(t), 0, n), n)
		r.Label(l.predicts())
	}
}

// share attaches to the attentions of a decoder and around it.
func (l *leading) share() {
	m := l.a.Model
	for _, at := range m.Attentions {
		at.Wrap(func(t *nn.Tape, q, k, v *nn.Var, s nn.AttnSpec, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
			if l.pass == alone {
				l.crowded = l.crowded || s.PastK != nil
				l.keys[at] = [2]*nn.Var{nn.Concat(t, k), nn.Concat(t, v)} // the network lets go of its own
			}
			return next(t, q, k, v, s)
		})
		AttachKeyValues(at, func(*nn.Tape) (k, v *nn.Var) {
			if l.pass != behind {
				return nil, nil
			}
			return l.keys[at][0], l.keys[at][1]
		}, false)
	}
	m.Around(func(t *nn.Tape, b *model.Batch, next func(*nn.Tape, *model.Batch) *model.States) *model.States {
		if len(b.Seqs) < 2 || b.Cache != nil || l.crowded || m.Arounds() > 1 || m.Tasks > 0 || m.WholeText {
			return next(t, b)
		}
		n := l.a.Geometry.Tokens
		rows := model.Sequence(make([]int32, n), 0)
		rows.Last = slices.Max(b.Pos) + int32(n)
		l.keys = map[*model.Attention][2]*nn.Var{}
		l.pass = alone
		first := next(t, rows)
		if l.pass = inserted; l.crowded || first.Own != nil {
			l.crowded = true
			return next(t, b)
		}
		l.pass = behind
		texts := next(t, b)
		l.pass = inserted
		labels, weights := l.predicts()
		return texts.Behind(t, first, b, labels, weights)
	})
}

// Part returns rows r0 to r1 of x; x itself when that is all.
func Part(t *nn.Tape, x *nn.Var, r0, r1 int) *nn.Var {
	if r0 == 0 && r1 == x.Rows {
		return x
	}
	rows := make([]int32, r1-r0)
	for i := range rows {
		rows[i] = int32(r0 + i)
	}
	return nn.GatherRows(t, x, rows)
}
