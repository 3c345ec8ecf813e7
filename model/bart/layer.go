package bart

import (
	"github.com/peftkit/peftkit/nn"
)

// run computes the sublayer of an attention: body turns what the attention reads
// into its output, which joins the stream x. It uses up x.
func (a *attention) run(t *nn.Tape, x *nn.Var, body func(h *nn.Var) *nn.Var) *nn.Var {
	h := x
	if a.end.Norm == nil {
		h = a.norm.Forward(t, x)
	}
	next := a.end.Forward(t, x, h, body(h))
	t.Discard(x, h)
	return next
}

// feedForward computes the last sublayer of a layer. It uses up x.
func (l *layer) feedForward(t *nn.Tape, x *nn.Var, act nn.Activation) *nn.Var {
	h := x
	if l.end.Norm == nil {
		h = l.norm.Forward(t, x)
	}
	up := l.fc1.Forward(t, h)
	a := nn.Apply(t, up, act)
	next := l.end.Forward(t, x, h, l.fc2.Forward(t, a))
	t.Discard(up, a, x, h)
	return next
}
