package nn

import "github.com/peftkit/peftkit/kernels"

// Watch gives back the complete gradient of y, before it flows on through the
// operation that made y: what changed that operation from outside of the tape
// computes the gradients of its own parameters from it. It costs no pass over y. Call
// it before anything reads y, which from then on wants a gradient. back must not
// change dy; saved lists the variables whose Mat it reads.
func (t *Tape) Watch(y *Var, back func(dy kernels.Mat), saved ...*Var) {
	if !t.Train {
		return
	}
	recorded := y.Needs
	y.Needs = true
	for _, v := range saved {
		v.saves++
	}
	t.nodes = append(t.nodes, node{out: y, saved: saved, inPlace: recorded, back: func() {
		if y.Grad != nil {
			back(y.gradMat())
		}
	}})
}
