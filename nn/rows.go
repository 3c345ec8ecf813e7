package nn

import "github.com/peftkit/peftkit/kernels"

// grain is the number of elements below which another goroutine is not worth it.
const grain = 8 << 10

func copyParallel(dst, src []float32) {
	kernels.Parallel(len(dst), grain, func(lo, hi int) { copy(dst[lo:hi], src[lo:hi]) })
}

func addParallel(dst, a, b []float32) {
	kernels.Parallel(len(dst), grain, func(lo, hi int) { kernels.Add(dst[lo:hi], a[lo:hi], b[lo:hi]) })
}

// eachRow calls f for ranges of rows that together hold about grain elements.
func eachRow(rows, cols int, f func(lo, hi int)) {
	kernels.Parallel(rows, max(1, grain/max(cols, 1)), f)
}

// colBlock is the width of the column blocks of columnSum.
const colBlock = 64

// columnSum adds to dst, for every column, the sum over rows of
// dy[r,c] * x[r,c] * scale[r]; x and scale may be absent. Rows are summed in
// blocks of 64, blocks in order, one column always by one goroutine.
func columnSum(dst []float32, dy kernels.Mat, x *kernels.Mat, scale []float32) {
	blocks := (len(dst) + colBlock - 1) / colBlock
	kernels.Parallel(blocks, 1, func(lo, hi int) {
		var sum, tmp [colBlock]float32
		for b := lo; b < hi; b++ {
			c0, c1 := b*colBlock, min((b+1)*colBlock, len(dst))
			part, prod := sum[:c1-c0], tmp[:c1-c0]
			for r0 := 0; r0 < dy.Rows; r0 += 64 {
				clear(part)
				for r := r0; r < min(r0+64, dy.Rows); r++ {
					d := dy.Row(r)[c0:c1]
					if x != nil && scale == nil {
						kernels.MulAdd(part, d, x.Row(r)[c0:c1])
						continue
					}
					if x != nil {
						kernels.Mul(prod, d, x.Row(r)[c0:c1])
						d = prod
					}
					if scale != nil {
						kernels.Axpy(scale[r], d, part)
					} else {
						kernels.Add(part, part, d)
					}
				}
				kernels.Add(dst[c0:c1], dst[c0:c1], part)
			}
		}
	})
}

// bandSum adds to dst what f adds up in sum, of len(dst) zeros, for each band of 64
// rows. f runs on several goroutines; bands are added in order.
func (t *Tape) bandSum(dst []float32, rows int, f func(sum []float32, r0, r1 int)) {
	const band = 64
	sums, mem := t.scratch((rows+band-1)/band, len(dst))
	kernels.Parallel(sums.Rows, 1, func(lo, hi int) {
		for b := lo; b < hi; b++ {
			clear(sums.Row(b))
			f(sums.Row(b), b*band, min((b+1)*band, rows))
		}
	})
	for b := range sums.Rows {
		kernels.Add(dst, dst, sums.Row(b))
	}
	t.mem.release(mem)
}

// zeroed returns the gradient of v ready to be added to.
func (t *Tape) zeroed(v *Var) kernels.Mat {
	m, acc := t.Grad(v)
	if !acc {
		kernels.Parallel(len(m.Data), grain, func(lo, hi int) { clear(m.Data[lo:hi]) })
	}
	return m
}
