package hub

import (
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// pass follows a forward pass through one stack: which rows are which sequences.
type pass struct {
	rows  *model.Rows
	begin []func() // called when a pass begins
}

// pass returns the one of a stack and hooks it into the model.
func (a *Adapter) pass(stack model.Stack) *pass {
	if p := a.passes[stack]; p != nil {
		return p
	}
	if a.passes == nil {
		a.passes = map[model.Stack]*pass{}
	}
	p := &pass{}
	a.passes[stack] = p
	a.sites = append(a.sites, &passSite{p, a.model, stack})
	return p
}

func (p *pass) seqs() []nn.Span { return p.rows.Seqs }

// mean returns the sigmoid of a gate's linear layer, averaged over the rows of
// each sequence: [sequences, gates].
func (p *pass) mean(t *nn.Tape, gate *projection, x *nn.Var) *nn.Var {
	return nn.MeanRows(t, nn.Apply(t, gate.forward(t, x), nn.Sigmoid), p.seqs())
}

// spread repeats the row of each sequence for all rows of it.
func (p *pass) spread(t *nn.Tape, x *nn.Var) *nn.Var {
	var of []int32
	for i, s := range p.seqs() {
		of = append(of, slices.Repeat([]int32{int32(i)}, s.End-s.Start)...)
	}
	return nn.GatherRows(t, x, of)
}

// passSite hooks a pass into the input of its stack.
type passSite struct {
	*pass
	model *model.Model
	stack model.Stack
}

func (s *passSite) path() string { return "" }

func (s *passSite) init(*rand.Rand) {}

func (s *passSite) attach(float32) error {
	for _, in := range s.model.Inputs {
		if in.Stack == s.stack {
			in.Hook(func(t *nn.Tape, r *model.Rows) {
				s.rows = r
				for _, f := range s.begin {
					f()
				}
			})
		}
	}
	return nil
}
