package shadow

import (
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// pass is the state of a forward pass.
type pass struct {
	seed  *nn.Var     // what the shadow network makes of the tokens, [tokens, hidden size]
	state *nn.Var     // the shadow at the block under way, [rows, hidden size]
	rows  *model.Rows // as they enter the model
}

// attach runs the shadow network before the model's, and lets the shadow go along with
// the blocks.
func (a *adapter) attach(scale float32) {
	alpha := scale * float32(a.c.Alpha)
	a.model.Around(func(t *nn.Tape, b *model.Batch, next func(*nn.Tape, *model.Batch) *model.States) *model.States {
		own := *b
		if b.Cache != nil {
			own.Cache = b.Cache.Beside(a.net)
		}
		a.seed = a.net.Run(t, &own).X
		if a.projection != nil {
			a.seed = nn.MatMulT(t, a.seed, a.projection.V)
		}
		return next(t, b)
	})
	a.model.Inputs[0].Hook(func(_ *nn.Tape, r *model.Rows) { a.rows = r })
	for i, s := range a.sites {
		s.at.OnEnter(func(t *nn.Tape, x *nn.Var) *nn.Var {
			if i == 0 {
				a.begin(t, x.Rows)
			}
			return a.inject(t, x, s, alpha)
		})
		if i < len(a.sites)-1 { // nothing reads the shadow that the last one would give
			s.at.OnLeave(func(t *nn.Tape, x *nn.Var) { a.update(t, x, s) })
		}
	}
	if a.c.Auxiliary > 0 && a.model.Options.Task != model.TokenClassification {
		a.model.AddLoss(a.auxiliary)
	}
}

// begin gives every row its shadow. Rows that another method has put before a text are
// unknown to PEFT; theirs is zero.
func (a *adapter) begin(t *nn.Tape, rows int) {
	a.state = a.seed
	if own := a.rows.Own(); own != nil {
		a.state = nn.ScatterRows(t, a.seed, own, rows)
	}
}

// inject returns x + alpha * (x - shadow) · downᵀ · upᵀ.
func (a *adapter) inject(t *nn.Tape, x *nn.Var, s *site, alpha float32) *nn.Var {
	apart := nn.Minus(t, x, a.state)
	dropped := nn.Dropout(t, apart, float32(a.c.Dropout))
	z := nn.MatMulT(t, dropped, s.down.V)
	y := nn.Scale(t, nn.MatMulT(t, z, s.up.V), alpha)
	t.Discard(apart, dropped, z)
	return nn.Add(t, x, y)
}

// update moves the shadow towards what the block's output says, as far as a gate is
// open: s + g * (candidate - s).
func (a *adapter) update(t *nn.Tape, x *nn.Var, s *site) {
	gate := nn.Apply(t, s.gate.forward(t, x), nn.Sigmoid)
	away := nn.Minus(t, s.transform.forward(t, x), a.state)
	step := nn.Mul(t, gate, away)
	a.state = nn.Sum(t, a.state, step)
	t.Discard(gate, away, step)
}

func (n *mlp) forward(t *nn.Tape, x *nn.Var) *nn.Var {
	return n[1].Forward(t, nn.Apply(t, n[0].Forward(t, x), nn.GELU))
}

// auxiliary is the loss of the shadow network by itself: through the model's head, or
// for a classifier of sequences the last row of each through a head of its own.
func (a *adapter) auxiliary(t *nn.Tape, b *model.Batch, gradScale float32) float64 {
	states, plain := &model.States{X: a.seed}, *a.model.Head
	plain.Cap = 0 // PEFT calls the layer, and transformers bounds its logits outside
	head := &plain
	if a.head != nil {
		last := make([]int32, len(b.Seqs))
		for i, s := range b.Seqs {
			last[i] = int32(s.End - 1)
		}
		states, head = &model.States{X: nn.GatherRows(t, a.seed, last)}, a.head
	}
	weight := float32(a.c.Auxiliary)
	sum, _ := a.model.LossOf(t, states, head, b, gradScale*weight)
	return float64(weight) * sum
}
