package model

import "github.com/peftkit/peftkit/nn"

// Memory is what the decoder of an encoder-decoder model sees of its sources: the
// rows that the encoder gives, [rows, hidden], and which of them belong to each
// sequence. X is nil where a cache holds the sources' keys and values.
type Memory struct {
	X    *nn.Var
	Seqs []nn.Span
}

// Attend projects the rows of h to queries, which meet keys and values, and
// projects what they find. It uses up k and v.
func (a *Attention) Attend(t *nn.Tape, h, k, v *nn.Var, spec nn.AttnSpec) *nn.Var {
	q := a.Q.Forward(t, h)
	o := a.Forward(t, q, k, v, spec)
	y := a.O.Forward(t, o)
	t.Discard(q, k, v, o)
	return y
}

// AttendSelf is Attend with the keys and values of h itself, behind those that
// the cache holds; c may be nil.
func (a *Attention) AttendSelf(t *nn.Tape, h *nn.Var, c *Cache, spec nn.AttnSpec) *nn.Var {
	k, v := a.K.Forward(t, h), a.V.Forward(t, h)
	keys, values := k, v
	if c != nil {
		keys, values = c.Extend(a.Layer, k, v, &spec)
	}
	y := a.Attend(t, h, keys, values, spec)
	t.Discard(k, v)
	return y
}

// AttendCross is Attend with the keys and values of the sources: those of the
// cache where m is empty, else new ones, which the cache then keeps. c may be nil
// unless m is empty.
func (a *Attention) AttendCross(t *nn.Tape, h *nn.Var, c *Cache, m Memory, spec nn.AttnSpec) *nn.Var {
	var k, v *nn.Var
	if m.X == nil {
		k, v, spec.KeySeqs = c.Cross(a.Layer)
	} else {
		k, v, spec.KeySeqs = a.K.Forward(t, m.X), a.V.Forward(t, m.X), m.Seqs
		if c != nil {
			c.AppendCross(k, v, m.Seqs)
		}
	}
	return a.Attend(t, h, k, v, spec)
}
