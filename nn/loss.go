package nn

import (
	"fmt"
	"math"
)

// BCEWithLogits returns the sum over all elements of the binary cross-entropy
// between sigmoid(logits) and targets, in nats, and their number:
// torch.nn.BCEWithLogitsLoss is sum/n. targets, one per element of logits, are 0,
// 1 or between. gradScale times the gradient of the sum flows into logits.
func BCEWithLogits(t *Tape, logits *Var, targets []float32, gradScale float32) (sum float64, n int) {
	return elementLoss(t, "BCEWithLogits", logits, targets, gradScale, func(x, y float64) (loss, grad float64) {
		return max(x, 0) - x*y + math.Log1p(math.Exp(-math.Abs(x))), sigmoid(x) - y
	})
}

// MSE returns the sum of (pred-target)² over all elements and their number:
// torch.nn.MSELoss is sum/n. gradScale times the gradient of the sum flows into pred.
func MSE(t *Tape, pred *Var, targets []float32, gradScale float32) (sum float64, n int) {
	return elementLoss(t, "MSE", pred, targets, gradScale, func(x, y float64) (loss, grad float64) {
		return (x - y) * (x - y), 2 * (x - y)
	})
}

// elementLoss sums f over elements. Losses are of a few outputs per sequence, so
// one goroutine does.
func elementLoss(t *Tape, name string, x *Var, targets []float32, gradScale float32, f func(x, y float64) (loss, grad float64)) (sum float64, n int) {
	n = x.Rows * x.Cols
	if len(targets) != n {
		panic(fmt.Sprintf("nn: %s of [%d,%d] with %d targets", name, x.Rows, x.Cols, len(targets)))
	}
	data := x.Mat().Data
	var grad []float32
	if t.Train && x.Needs {
		grad = t.zeroed(x).Data
	}
	for i, v := range data[:n] {
		loss, d := f(float64(v), float64(targets[i]))
		sum += loss
		if grad != nil {
			grad[i] += gradScale * float32(d)
		}
	}
	return sum, n
}
