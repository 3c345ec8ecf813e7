// Package netbound bounds how far rounding moves the outputs of a model's network.
package netbound

import (
	"math"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Terms is the number of roundings behind an output: the terms of every sum of the
// network, as if all of them followed one another. Products that stand side by side
// (queries, keys, values) are counted too: they leave room for what a method adds.
func Terms(m *model.Model, b *model.Batch) int {
	keys := m.Reserved()
	for _, s := range b.Seqs {
		keys = max(keys, m.Reserved()+s.End-s.Start)
	}
	if b.Source != nil {
		for _, s := range b.Source.Seqs {
			keys = max(keys, m.Reserved()+s.End-s.Start)
		}
	}
	n := 0
	for _, mod := range m.Modules {
		n += mod.Weight().In
	}
	for range m.Attentions {
		n += m.HiddenSize + keys // products with keys, then with values
	}
	return n
}

// Logits bounds, value for value, the difference of two float32 computations of
// m.Logits(b) that are equal but for the order of sums and for what is rounded between:
// sqrt(2)*Spread(Terms) times the size of what is summed up to the value, the root of the
// sum of (h[j]*W[v,j])² over the row of W. Errors of the states h have come through
// norms, which spread them over the row: no |h[j]| counts less than the row's root mean
// square. The states' relative error is taken to come through the layers unamplified, as
// it does in the residual stream of small random weights with a norm in front of each.
func Logits(m *model.Model, b *model.Batch) []float64 {
	h := m.Hidden(nn.NewTape(), b)
	rel := math.Sqrt2 * bound.Spread(Terms(m, b))
	var out []float64
	var weights [][]float32
	if m.Head != nil {
		weights = rows(m.Head.W)
	}
	for r := range h.Rows {
		x := sizes(h.Mat().Row(r))
		if m.Head == nil {
			for _, v := range x {
				out = append(out, rel*float64(v))
			}
			continue
		}
		for _, w := range weights {
			out = append(out, rel*bound.Norm(x, w))
		}
	}
	return out
}

// sizes is the magnitude of each value, at least their root mean square.
func sizes(h []float32) []float32 {
	sum := 0.0
	for _, v := range h {
		sum += float64(v) * float64(v)
	}
	rms := float32(math.Sqrt(sum / float64(len(h))))
	out := make([]float32, len(h))
	for i, v := range h {
		out[i] = max(v, -v, rms)
	}
	return out
}

// rows decodes a weight as [out][in].
func rows(w *nn.Weight) [][]float32 {
	out := make([][]float32, w.Out)
	for i := range out {
		out[i] = make([]float32, w.In)
	}
	if !w.Transposed {
		for i := range out {
			w.Row(out[i], i)
		}
		return out
	}
	line := make([]float32, w.Out)
	for j := range w.In {
		w.Row(line, j)
		for i, v := range line {
			out[i][j] = v
		}
	}
	return out
}

// Moved is Logits for a network whose adapters were moved far from their start. Their
// random changes make attention scores of several units, and exp(s) has |s| times the
// relative error of s: such errors are not passed on unamplified, but up to 4 times.
func Moved(m *model.Model, b *model.Batch) []float64 {
	const scores = 4
	out := Logits(m, b)
	for i := range out {
		out[i] *= scores
	}
	return out
}
