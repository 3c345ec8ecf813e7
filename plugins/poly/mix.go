package poly

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// Attach implements tuner.Site. Rows of many sequences are multiplied with all skills at
// once, the results weighed by sequence.
func (s *site) Attach(scale float32) error {
	c := s.cfg
	k, r := c.Skills, c.R
	repeat, sum := tuner.Constant(make([]float32, k*k*r), k, k*r), tuner.Constant(make([]float32, k*r*r), k*r, r)
	for i := range k {
		for j := range r {
			repeat.Data[i*k*r+i*r+j] = 1
			sum.Data[(i*r+j)*r+j] = 1
		}
	}
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		now := c.now[s.stack]
		of := now.of
		if x.Rows != len(of) { // a layer of whole sequences: a pooler
			of = make([]int32, x.Rows)
			for i := range of {
				of[i] = int32(i)
			}
		}
		weights := nn.GatherRows(t, s.mixtures(t, now.tasks), of)
		down := nn.TransposeEach(t, s.a.V, c.Splits*k) // [splits*skills*r, in/splits]
		in, out := s.a.Shape[2], s.b.Shape[3]
		var h *nn.Var
		wide := make([]*nn.Var, c.Splits)
		for q := range c.Splits {
			wide[q] = nn.MatMul(t, nn.Columns(t, weights, q*k, (q+1)*k), repeat)
			z := nn.Mul(t, nn.MatMulT(t, nn.Columns(t, x, q*in, (q+1)*in), rows(t, down, q*k*r, (q+1)*k*r)), wide[q])
			if z = nn.MatMul(t, z, sum); h == nil {
				h = z
			} else {
				h = nn.Sum(t, h, z)
			}
		}
		again := nn.MatMulT(t, h, sum) // h beside itself, for every skill
		left := make([]*nn.Var, c.Splits)
		for q := range c.Splits {
			left[q] = nn.Mul(t, again, wide[q])
		}
		// The parts of the outputs are blocks of one factor, [out, splits*skills*r].
		up := make([]*nn.Var, c.Splits)
		for q := range c.Splits {
			block := nn.Transpose(t, rows(t, s.b.V, q*k*r, (q+1)*k*r))
			if c.Splits > 1 {
				before, after := tuner.Constant(make([]float32, out*q*k*r), out, q*k*r), tuner.Constant(make([]float32, out*(c.Splits-1-q)*k*r), out, (c.Splits-1-q)*k*r)
				block = nn.ConcatCols(t, before, block, after)
			}
			up[q] = block
		}
		return nn.LowRank{X: nn.ConcatCols(t, left...), B: nn.Concat(t, up...), Scale: scale / float32(r)}
	})
	return nil
}

// rows views rows from to to of x.
func rows(t *nn.Tape, x *nn.Var, from, to int) *nn.Var {
	if from == 0 && to == x.Rows {
		return x
	}
	list := make([]int32, to-from)
	for i := range list {
		list[i] = int32(from + i)
	}
	return nn.GatherRows(t, x, list)
}

// mixtures returns the weights of the skills for each sequence, [sequences,
// splits*skills]: in each split they add up to one.
func (s *site) mixtures(t *nn.Tape, tasks []int32) *nn.Var {
	c := s.cfg
	for _, task := range tasks {
		if task < 0 || int(task) >= c.Tasks {
			panic(fmt.Sprintf("poly: task %d of %d", task, c.Tasks))
		}
	}
	l := nn.GatherRows(t, s.logits.V, tasks)
	if t.Train && c.Sample {
		l = nn.Sum(t, l, tuner.Constant(noise(t.Seed^s.key, l.Rows*l.Cols), l.Rows, l.Cols))
	}
	w := nn.View(t, nn.Apply(t, l, nn.Sigmoid), l.Rows*c.Splits, c.Skills)
	ones := tuner.Constant(make([]float32, c.Skills*c.Skills), c.Skills, c.Skills)
	for i := range ones.Data {
		ones.Data[i] = 1
	}
	return nn.View(t, nn.Div(t, w, nn.AddConst(t, nn.MatMul(t, w, ones), 1e-12)), l.Rows, l.Cols)
}

// noise returns n numbers of the standard logistic distribution, the logits of uniform
// ones, as torch.distributions draws them.
func noise(seed uint64, n int) []float32 {
	const eps = 0x1p-23 // torch keeps uniform numbers this far from 0 and 1
	out := make([]float32, n)
	for i := range out {
		u := min(max(float64(mix(seed+uint64(i))>>11)/(1<<53), eps), 1-eps)
		out[i] = float32(math.Log(u) - math.Log1p(-u))
	}
	return out
}

// mix is the output function of SplitMix64: neighbouring inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
