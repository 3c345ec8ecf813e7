package train

import (
	"math"
	"regexp"
	"slices"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// AdamW is the optimizer of Loshchilov and Hutter 2019 (arXiv 1711.05101) with
// PyTorch's order of operations. Weight decay spares biases and norm weights.
type AdamW struct {
	Params []*nn.Param
	// Step counts the updates done, Missed those of them that passed over a
	// parameter: where no backward pass comes to one (a layer that layerdrop leaves
	// out) PyTorch has no gradient, and neither decays it nor moves it by its moments.
	Step   int
	Missed []int
	// M and V are the moments of each parameter.
	M, V [][]float32
	// Beta1, Beta2, Eps and WeightDecay as torch.optim.AdamW calls them.
	Beta1, Beta2, Eps, WeightDecay float64

	// Rates multiply the learning rate, Decays the weight decay of each parameter.
	Rates, Decays []float64

	blocks []block
}

// noDecay finds biases and norm weights, to which transformers' Trainer applies
// no weight decay (get_decay_parameter_names). It knows GPT-2's ln_1, ln_2 and ln_f
// by their type.
var noDecay = regexp.MustCompile(`(?i)bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)|(?:^|\.)ln_[12f](?:$|\.)`)

// block is a piece of a parameter that one goroutine works on. The cut depends
// on the sizes alone, so results do not depend on the number of threads.
type block struct{ param, lo, hi int }

const blockSize = 1 << 14

// NewAdamW returns an optimizer with zero moments.
func NewAdamW(params []*nn.Param, beta1, beta2, eps, weightDecay float64) *AdamW {
	o := &AdamW{Params: params, Missed: make([]int, len(params)), Beta1: beta1, Beta2: beta2, Eps: eps, WeightDecay: weightDecay}
	for i, p := range params {
		n := len(p.V.Data)
		decay := 1.0
		if noDecay.MatchString(p.Name) {
			decay = 0
		}
		o.Rates, o.Decays = append(o.Rates, 1), append(o.Decays, decay)
		o.M, o.V = append(o.M, make([]float32, n)), append(o.V, make([]float32, n))
		for lo := 0; lo < n; lo += blockSize {
			o.blocks = append(o.blocks, block{i, lo, min(lo+blockSize, n)})
		}
	}
	return o
}

// ZeroGrad clears all gradients.
func (o *AdamW) ZeroGrad() {
	for _, p := range o.Params {
		p.ZeroGrad()
	}
}

// GradNorm returns the global 2-norm of the gradients, summed in a fixed order.
func (o *AdamW) GradNorm() float64 {
	sums := make([]float64, len(o.blocks))
	kernels.Parallel(len(o.blocks), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			b := o.blocks[i]
			// Pieces keep the float32 sums short.
			const piece = 1 << 10
			g := o.Params[b.param].V.Grad[b.lo:b.hi]
			for len(g) > 0 {
				n := min(piece, len(g))
				sums[i] += float64(kernels.SumSquares(g[:n]))
				g = g[n:]
			}
		}
	})
	var sum float64
	for _, s := range sums {
		sum += s
	}
	return math.Sqrt(sum)
}

// Clip scales the gradients so that their global norm is at most limit, as
// torch.nn.utils.clip_grad_norm_ does, and returns the norm they had. A limit of
// 0 does not scale.
func (o *AdamW) Clip(limit float64) float64 {
	norm := o.GradNorm()
	if s := limit / (norm + 1e-6); limit > 0 && s < 1 {
		kernels.Parallel(len(o.blocks), 1, func(lo, hi int) {
			for _, b := range o.blocks[lo:hi] {
				kernels.Scale(o.Params[b.param].V.Grad[b.lo:b.hi], float32(s))
			}
		})
	}
	return norm
}

// Update applies the gradients with a learning rate.
func (o *AdamW) Update(lr float64) {
	o.Step++
	steps := make([]kernels.AdamWStep, len(o.Params))
	for i, p := range o.Params {
		if !p.V.Reached && isZero(p.V.Grad) { // a penalty is added without a backward pass
			o.Missed[i]++
			continue
		}
		n := float64(o.Step - o.Missed[i])
		steps[i] = kernels.AdamWStep{
			LR: lr * o.Rates[i], Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, WeightDecay: o.WeightDecay * o.Decays[i],
			Bias1: 1 - math.Pow(o.Beta1, n), Bias2: 1 - math.Pow(o.Beta2, n),
		}
	}
	kernels.Parallel(len(o.blocks), 1, func(lo, hi int) {
		for _, b := range o.blocks[lo:hi] {
			if s := &steps[b.param]; s.Bias1 != 0 {
				p := o.Params[b.param].V
				s.Apply(p.Data[b.lo:b.hi], p.Grad[b.lo:b.hi], o.M[b.param][b.lo:b.hi], o.V[b.param][b.lo:b.hi])
			}
		}
	})
}

func isZero(v []float32) bool { return !slices.ContainsFunc(v, func(x float32) bool { return x != 0 }) }
