package xlora

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// attach hooks the adapters into their layers and runs the network twice.
func (a *adapter) attach(m *model.Model, scale float32) {
	for i, l := range a.layers {
		l.at.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank { return a.addition(t, x, i, scale*float32(a.c.Global)) })
	}
	m.Around(func(t *nn.Tape, b *model.Batch, next func(*nn.Tape, *model.Batch) *model.States) *model.States {
		first := *b
		if b.Cache != nil {
			first.Cache = b.Cache.Beside(m)
		}
		a.scalings = nil
		if a.c.First != 0 {
			a.scalings = &nn.Var{} // the rows are counted in the layers
		}
		states := next(t, &first)
		a.scalings = a.classify(t, nn.Detach(t, states.X))
		defer func() { a.scalings = nil }()
		return next(t, b)
	})
}

// classify returns the weights of the adapters for each row of h.
func (a *adapter) classify(t *nn.Tape, h *nn.Var) *nn.Var {
	for i, w := range a.weights {
		h = nn.AddRow(t, nn.MatMulT(t, h, w.V), nn.View(t, a.biases[i].V, 1, w.V.Rows))
		if i < len(a.weights)-1 {
			h = nn.Dropout(t, nn.Apply(t, h, relu), float32(a.c.Dropout))
		}
	}
	if !a.c.Softmax {
		return h
	}
	rows, n := h.Rows, len(a.c.paths)
	h = nn.SoftmaxRows(t, nn.Scale(t, nn.View(t, h, rows*h.Cols/n, n), float32(1/a.c.Temperature)))
	return nn.View(t, h, rows, h.Rows/rows*n)
}

var relu, _ = nn.ActivationByName("relu")

// weigh returns the weights of the adapters in a layer, [rows, adapters].
func (a *adapter) weigh(t *nn.Tape, i, rows int) *nn.Var {
	n := len(a.c.paths)
	var s *nn.Var
	switch {
	case a.scalings.Rows == 0: // the first pass
		s = tuner.Constant(make([]float32, rows*n), rows, n)
		for k := range s.Data {
			s.Data[k] = float32(a.c.First)
		}
	case a.c.Layerwise:
		s = nn.Columns(t, a.scalings, i*n, (i+1)*n)
	default:
		s = a.scalings
	}
	if a.c.TopK != nil {
		s = nn.Mul(t, s, largest(s.Mat(), *a.c.TopK))
	}
	if a.c.SoftmaxTopK {
		s = softmaxOfUsed(t, s)
	}
	return s
}

// largest is 1 for the k largest of each row, the first of equal ones, and 0 for others.
func largest(s kernels.Mat, k int) *nn.Var {
	out := tuner.Constant(make([]float32, s.Rows*s.Cols), s.Rows, s.Cols)
	for r := range s.Rows {
		row, used := s.Row(r), out.Data[r*s.Cols:(r+1)*s.Cols]
		for range k {
			best := -1
			for i, v := range row {
				if used[i] == 0 && (best < 0 || v > row[best]) {
					best = i
				}
			}
			used[best] = 1
		}
	}
	return out
}

// softmaxOfUsed is the softmax over what is not 0 in each row; the rest stays 0.
func softmaxOfUsed(t *nn.Tape, s *nn.Var) *nn.Var {
	used, away := tuner.Constant(make([]float32, s.Rows*s.Cols), s.Rows, s.Cols), tuner.Constant(make([]float32, s.Rows*s.Cols), s.Rows, s.Cols)
	for i, v := range s.Mat().Data[:len(used.Data)] {
		if v != 0 {
			used.Data[i] = 1
		} else {
			away.Data[i] = -1e30
		}
	}
	return nn.Mul(t, nn.SoftmaxRows(t, nn.Sum(t, s, away)), used)
}

// addition is what the adapters add to layer i: each A x is multiplied by the
// adapter's weight at that row.
func (a *adapter) addition(t *nn.Tape, x *nn.Var, i int, scale float32) nn.LowRank {
	if a.scalings == nil {
		return nn.LowRank{}
	}
	weights := a.weigh(t, i, x.Rows)
	var left, right []*nn.Var
	for _, e := range a.layers[i].experts {
		z := nn.MatMulT(t, nn.Dropout(t, x, e.dropout), e.a)
		left = append(left, nn.Scale(t, nn.MulCol(t, z, nn.Columns(t, weights, e.number, e.number+1)), e.scale))
		right = append(right, e.b)
	}
	return nn.LowRank{X: nn.ConcatCols(t, left...), B: nn.ConcatCols(t, right...), Scale: scale}
}
