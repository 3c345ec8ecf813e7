package nn

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/kernels"
)

// logitsAtOnce is about how many logits CrossEntropy holds.
var logitsAtOnce = 8 << 20

// HeadRows is how many of the labelled rows have their logits, out of them each, in
// memory at once in [CrossEntropy].
func HeadRows(rows, out int) int {
	return min(rows, max(16, logitsAtOnce/max(out, 1)&^15))
}

// CrossEntropy is the language-model head and its loss in one: it returns the sum
// over rows with label >= 0 of -log softmax(head(h))[label], in nats, and the
// number of these rows. Other rows cost nothing. Logits are computed for a chunk
// of rows at a time and turned into their gradient in place, so gradients flow
// already during the forward pass (the order of Liger's fused linear
// cross-entropy): gradScale times the gradient of the sum goes into h, into the
// head's low-rank additions, and into its weight and bias if they are trainable.
//
// A head with a Cap limits its logits before the softmax. A head with Wrap hooks
// is computed through them, with all labelled logits held.
// A label that is not below the number of logits panics.
func CrossEntropy(t *Tape, h *Var, head *LinearLayer, labels []int32, gradScale float32) (sum float64, n int) {
	return WeightedCrossEntropy(t, h, head, labels, nil, gradScale)
}

// WeightedCrossEntropy is [CrossEntropy] with the loss of each row, and its gradient,
// multiplied by a weight, [h.Rows]; nil for 1 everywhere. n still counts rows.
func WeightedCrossEntropy(t *Tape, h *Var, head *LinearLayer, labels []int32, weights []float32, gradScale float32) (sum float64, n int) {
	if len(labels) != h.Rows || weights != nil && len(weights) != h.Rows {
		panic(fmt.Sprintf("nn: CrossEntropy of %d rows with %d labels and %d weights", h.Rows, len(labels), len(weights)))
	}
	var rows, want []int32
	var weight []float32
	for i, l := range labels {
		if l < 0 {
			continue
		}
		rows, want = append(rows, int32(i)), append(want, l)
		if weights != nil {
			weight = append(weight, weights[i])
		}
	}
	if len(rows) == 0 {
		return 0, 0
	}
	x := h
	if len(rows) < h.Rows {
		x = GatherRows(t, h, rows)
	}
	if len(head.wraps)+len(head.views) > 0 {
		logits := head.Forward(t, x)
		if x != h {
			t.Discard(x)
		}
		return logitsLoss(t, logits, want, weight, gradScale), len(rows)
	}

	p := newProduct(t, x, head.W, head.Bias, head.additions(t, x))
	train := t.Train && p.needs
	var g *productGrads
	if train {
		g = p.grads()
	}
	chunk := HeadRows(len(rows), p.out)
	logits, mem := t.scratch(chunk, p.out)
	losses := make([]float64, len(rows))
	for r0 := 0; r0 < len(rows); r0 += chunk {
		r1 := min(r0+chunk, len(rows))
		y := logits.RowsOf(0, r1-r0)
		p.forward(y, r0, r1)
		softmaxLoss(losses[r0:r1], y, want[r0:r1], part(weight, r0, r1), head.Cap, gradScale, train)
		if train {
			p.backward(g, y, r0, r1)
		}
	}
	t.mem.release(mem)
	p.done()
	if x != h {
		t.Discard(x)
	}
	for _, l := range losses {
		sum += l
	}
	return sum, len(rows)
}

// part returns weights r0 to r1, nil of none.
func part(weights []float32, r0, r1 int) []float32 {
	if weights == nil {
		return nil
	}
	return weights[r0:r1]
}

// logitsLoss is the loss of logits that exist as a variable.
func logitsLoss(t *Tape, logits *Var, labels []int32, weights []float32, gradScale float32) (sum float64) {
	losses := make([]float64, logits.Rows)
	y := logits.Mat()
	train := t.Train && logits.Needs
	if train {
		m, acc := t.Grad(logits)
		if acc {
			panic("nn: CrossEntropy of logits that have a gradient already")
		}
		copyParallel(m.Data, y.Data)
		y = m
	}
	softmaxLoss(losses, y, labels, weights, 0, gradScale, train)
	for _, l := range losses {
		sum += l
	}
	return sum
}

// softmaxLoss computes the loss of each row, and with grad replaces the logits by
// gradScale * (softmax - onehot(label)); both times the row's weight, if there are any.
// With limit > 0 the logits are capped first, and the gradient is that of the logits before.
func softmaxLoss(losses []float64, y kernels.Mat, labels []int32, weights []float32, limit, gradScale float32, grad bool) {
	for _, l := range labels {
		if int(l) >= y.Cols {
			panic(fmt.Sprintf("nn: CrossEntropy with label %d of %d logits", l, y.Cols))
		}
	}
	kernels.Parallel(y.Rows, 1, func(lo, hi int) {
		var slope []float32
		if limit > 0 && grad {
			slope = make([]float32, y.Cols)
		}
		for i := lo; i < hi; i++ {
			row := y.Row(i)
			if limit > 0 {
				softCap(row, limit)
			}
			if slope != nil {
				softCapSlope(slope, row, limit)
			}
			own, weight := row[labels[i]], float32(1)
			if weights != nil {
				weight = weights[i]
			}
			if !grad {
				losses[i] = float64(weight) * (float64(kernels.LogSumExp(row)) - float64(own))
				continue
			}
			// The largest probability is 1/sum, so the sum need not be computed twice.
			top := kernels.Max(row)
			kernels.Softmax(row)
			losses[i] = float64(weight) * (float64(top) - math.Log(float64(kernels.Max(row))) - float64(own))
			kernels.Scale(row, gradScale*weight)
			flushTiny(row)
			row[labels[i]] -= gradScale * weight
			if slope != nil {
				kernels.Mul(row, row, slope)
			}
		}
	})
}

// tiny and minusTiny hold 2^-100 and -2^-100.
var tiny, minusTiny = func() (p, m [1024]float32) {
	for i := range p {
		p[i], m[i] = 0x1p-100, -0x1p-100
	}
	return
}()

// flushTiny makes numbers zero that are far below anything that matters in a
// gradient (at most 2^-124), and leaves others as they are or rounded to a
// multiple of 2^-123. Logits far apart give subnormal probabilities, and CPUs
// multiply these many times slower.
func flushTiny(x []float32) {
	for len(x) > 0 {
		n := min(len(x), len(tiny))
		kernels.Add(x[:n], x[:n], tiny[:n])
		kernels.Add(x[:n], x[:n], minusTiny[:n])
		x = x[n:]
	}
}
