package prompts

import (
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// AttachRows puts the first Tokens rows of the embeddings before every text: of
// the encoder in an encoder-decoder model, where PEFT saves as many rows again
// and never uses them.
func AttachRows(a *Adapter) error {
	a.Model.Inputs[0].Hook(func(t *nn.Tape, r *model.Rows) {
		n := a.Geometry.Tokens
		if r.Continues() {
			r.Shift(n)
			return
		}
		r.Insert(t, Part(t, a.Encoder.Forward(t), 0, n), n)
	})
	return nil
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
