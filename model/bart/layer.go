package bart

import (
	"github.com/peftkit/peftkit/nn"
)

// run computes the sublayer of an attention: body turns what the attention reads
// into its output, which joins the stream x. It uses up x.
func (a *attention) run(t *nn.Tape, x *nn.Var, dropout float64, body func(h *nn.Var) *nn.Var) *nn.Var {
	h := x
	if a.end.Norm == nil {
		h = a.norm.Forward(t, x)
	}
	next := a.end.Forward(t, x, h, nn.BaseDropout(t, body(h), dropout))
	t.Discard(x, h)
	return next
}

// feedForward computes the last sublayer of a layer. It uses up x.
func (l *layer) feedForward(t *nn.Tape, x *nn.Var, c *Config) *nn.Var {
	h := x
	if l.end.Norm == nil {
		h = l.norm.Forward(t, x)
	}
	up := l.fc1.Forward(t, h)
	a := nn.BaseDropout(t, nn.Apply(t, up, c.act), c.ActivationDropout)
	next := l.end.Forward(t, x, h, nn.BaseDropout(t, l.fc2.Forward(t, a), c.Dropout))
	t.Discard(up, a, x, h)
	return next
}
