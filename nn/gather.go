package nn

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/kernels"
)

// Embed returns rows ids of w as [len(ids), w.In]. Row padding, unless negative, gets
// no gradient from it: padding_idx of PyTorch's embedding.
func Embed(t *Tape, w *Weight, ids []int32, padding int32) *Var {
	if w.Transposed {
		panic("nn: Embed of a transposed weight")
	}
	out := t.New(len(ids), w.In)
	out.Needs = w.trainable() != nil
	o := out.Mat()
	eachRow(len(ids), w.In, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			w.Row(o.Row(i), int(ids[i]))
		}
	})
	t.record(out, func() { scatterRows(t.zeroed(w.trainable()), out.gradMat(), learned(ids, padding)) })
	return out
}

// learned puts -1 in the place of the padding's ids.
func learned(ids []int32, padding int32) []int32 {
	if padding < 0 || !slices.Contains(ids, padding) {
		return ids
	}
	out := slices.Clone(ids)
	for i, id := range out {
		if id == padding {
			out[i] = -1
		}
	}
	return out
}

// scatterRows does dst[ids[i]] += src[i], where ids[i] is not negative. Columns are
// split between goroutines, rows are added in order.
func scatterRows(dst, src kernels.Mat, ids []int32) {
	const width = 256
	blocks := (src.Cols + width - 1) / width
	kernels.Parallel(blocks, 1, func(lo, hi int) {
		c0, c1 := lo*width, min(hi*width, src.Cols)
		for i, id := range ids {
			if id < 0 {
				continue
			}
			d := dst.Row(int(id))[c0:c1]
			kernels.Add(d, d, src.Row(i)[c0:c1])
		}
	})
}

// GatherRows returns the given rows of x, in that order; a row may repeat.
func GatherRows(t *Tape, x *Var, rows []int32) *Var {
	out := t.New(len(rows), x.Cols)
	out.Needs = x.Needs
	xm, o := x.Mat(), out.Mat()
	for i, r := range rows {
		if r < 0 || int(r) >= x.Rows {
			panic(fmt.Sprintf("nn: GatherRows of row %d of %d", r, x.Rows))
		}
		copy(o.Row(i), xm.Row(int(r)))
	}
	t.record(out, func() { scatterRows(t.zeroed(x), out.gradMat(), rows) })
	return out
}

// GatherCols returns the given columns of a as rows: [len(cols), a.Rows]. LoRA on
// an embedding looks up its A, [r, vocabulary], this way. Padding is as for [Embed].
func GatherCols(t *Tape, a *Var, cols []int32, padding int32) *Var {
	out := t.New(len(cols), a.Rows)
	out.Needs = a.Needs
	am, o := a.Mat(), out.Mat()
	for i, c := range cols {
		if c < 0 || int(c) >= a.Cols {
			panic(fmt.Sprintf("nn: GatherCols of column %d of %d", c, a.Cols))
		}
		row := o.Row(i)
		for r := range row {
			row[r] = am.Data[r*am.Stride+int(c)]
		}
	}
	t.record(out, func() {
		g, dy, cols := t.zeroed(a), out.gradMat(), learned(cols, padding)
		kernels.Parallel(a.Rows, 1, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				d := g.Row(r)
				for i, c := range cols {
					if c >= 0 {
						d[c] += dy.Data[i*dy.Stride+r]
					}
				}
			}
		})
	})
	return out
}
