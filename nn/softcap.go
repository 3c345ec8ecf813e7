package nn

import "github.com/peftkit/peftkit/kernels"

// SoftCap returns cap*tanh(x/cap): numbers between -cap and cap that are about x
// where x is small (Gemma 2). cap must be positive.
func SoftCap(t *Tape, x *Var, limit float32) *Var {
	if !(limit > 0) {
		panic("nn: SoftCap needs a positive limit")
	}
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	copyParallel(out.Data, x.Mat().Data)
	kernels.Parallel(len(out.Data), grain, func(lo, hi int) { softCap(out.Data[lo:hi], limit) })
	t.record(out, func() {
		m, acc := t.Grad(x)
		y := out.Mat().Data
		kernels.Parallel(len(y), grain, func(lo, hi int) {
			tmp := make([]float32, min(hi-lo, 1024))
			for ; lo < hi; lo += len(tmp) {
				n := min(len(tmp), hi-lo)
				s := tmp[:n]
				softCapSlope(s, y[lo:lo+n], limit)
				mulInto(m.Data[lo:lo+n], s, out.Grad[lo:lo+n], acc)
			}
		})
	}, out)
	return out
}

// softCap does x[i] = limit*tanh(x[i]/limit), as 2*limit*sigmoid(2x/limit) - limit.
func softCap(x []float32, limit float32) {
	for len(x) > 0 {
		n := min(len(x), len(ones))
		part := x[:n]
		kernels.Scale(part, 2/limit)
		kernels.Sigmoid(part, part)
		kernels.Scale(part, 2*limit)
		kernels.Axpy(-limit, ones[:n], part)
		x = x[n:]
	}
}

// softCapSlope writes the derivative of softCap from its result y: 1 - (y/limit)².
func softCapSlope(dst, y []float32, limit float32) {
	c := -1 / (limit * limit)
	kernels.Mul(dst, y[:len(dst)], y)
	kernels.Scale(dst, c)
	for len(dst) > 0 {
		n := min(len(dst), len(ones))
		kernels.Add(dst[:n], dst[:n], ones[:n])
		dst = dst[n:]
	}
}
