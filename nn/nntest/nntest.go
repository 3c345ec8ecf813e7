// Package nntest checks gradients: an operation of one's own, a layer, or a whole
// forward pass against finite differences.
//
//	p := nn.NewParam("scale", 1, 8)
//	nntest.GradCheck(t, "my op", []*nn.Param{p}, func(tape *nn.Tape) float64 {
//		return nntest.Weighted(tape, myOp(tape, x, p.V))
//	})
package nntest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/nn"
)

// Options say how gradients are compared. The zero value of each field stands for
// its default.
type Options struct {
	// Step is the distance h of the differences: 3e-3. Losses are sums of float32
	// numbers, so a smaller step drowns in their rounding.
	Step float64
	// Abs and Rel are the error that is allowed: Abs + Rel*|difference|; 2e-3 and
	// 0.03.
	Abs, Rel float64
	// Samples is about how many elements of each parameter are checked: 4.
	Samples int
}

func (o Options) withDefaults() Options {
	set := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Step, 3e-3)
	set(&o.Abs, 2e-3)
	set(&o.Rel, 0.03)
	if o.Samples == 0 {
		o.Samples = 4
	}
	return o
}

// Result counts what a check saw.
type Result struct {
	Checked int // elements compared
	Nonzero int // of them, those with a gradient above 1e-5
}

// GradCheck compares the gradients of params with fourth-order central
// differences of loss, and fails t where they differ.
//
// loss builds the forward pass on the tape, returns the loss, and when the tape
// trains, seeds the gradients of that same number: through nn.CrossEntropy and the
// other losses, or [Weighted]. It is called once with tape.Train, and then many
// times without, so it must not depend on dropout. The parameters are left as
// they were, their gradients hold those of the loss.
func GradCheck(t testing.TB, name string, params []*nn.Param, loss func(tape *nn.Tape) float64, options ...Options) Result {
	t.Helper()
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	o = o.withDefaults()
	tape := nn.NewTape()
	defer tape.Close()
	run := func(train bool) float64 {
		tape.Reset()
		tape.Train = train
		return loss(tape)
	}
	for _, p := range params {
		p.ZeroGrad()
	}
	trained := run(true)
	tape.Backward()
	require.InDelta(t, trained, run(false), 1e-5*math.Max(1, math.Abs(trained)), "%s: the loss depends on tape.Train", name)
	var res Result
	for _, p := range params {
		data := p.V.Data
		// An odd stride visits all columns of matrices with even sizes.
		stride := max(1, len(data)/o.Samples) | 1
		for i := 0; i < len(data); i += stride {
			old := data[i]
			at := func(d float64) float64 {
				data[i] = old + float32(d)
				return run(false)
			}
			want := (8*(at(o.Step)-at(-o.Step)) - (at(2*o.Step) - at(-2*o.Step))) / (12 * o.Step)
			data[i] = old
			require.InDelta(t, want, float64(p.V.Grad[i]), o.Abs+o.Rel*math.Abs(want), "%s: gradient of %s, element %d", name, p.Name, i)
			res.Checked++
			if math.Abs(want) > 1e-5 {
				res.Nonzero++
			}
		}
	}
	return res
}

// Weighted is a loss for any output: the sum of its elements, each times a fixed
// weight between -1 and 1 that depends on its index. When the tape trains, the
// weights become the gradient of y.
func Weighted(tape *nn.Tape, y *nn.Var) float64 {
	sum := 0.0
	for i, v := range y.Mat().Data {
		sum += float64(v) * weight(i)
	}
	if tape.Train && y.Needs {
		g, accumulate := tape.Grad(y)
		for i := range g.Data {
			if !accumulate {
				g.Data[i] = 0
			}
			g.Data[i] += float32(weight(i))
		}
	}
	return sum
}

func weight(i int) float64 { return math.Sin(1 + 0.7*float64(i)) }

// Fill sets a parameter to numbers between -scale and scale that depend on phase
// and the index alone, and returns it.
func Fill(p *nn.Param, phase, scale float64) *nn.Param {
	for i := range p.V.Data {
		p.V.Data[i] = float32(scale * math.Sin(phase+1.3*float64(i)))
	}
	return p
}
