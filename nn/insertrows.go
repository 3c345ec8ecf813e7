package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// InsertRows puts rows in front of every sequence: the n rows of pre for all, or
// with len(seqs)*n rows of pre n for each. It returns the new matrix and where
// the sequences lie in it, the new rows included. seqs must cover x in order.
func InsertRows(t *Tape, x *Var, seqs []Span, pre *Var, n int) (*Var, []Span) {
	own := pre.Rows != n
	if pre.Cols != x.Cols || own && pre.Rows != n*len(seqs) {
		panic(fmt.Sprintf("nn: InsertRows of [%d,%d], %d for each of %d sequences, into rows of %d", pre.Rows, pre.Cols, n, len(seqs), x.Cols))
	}
	spans := make([]Span, len(seqs))
	at, covered := 0, 0
	for i, s := range seqs {
		if s.Start != covered {
			panic(fmt.Sprintf("nn: InsertRows: sequence %d begins at row %d, not %d", i, s.Start, covered))
		}
		spans[i] = Span{at, at + n + s.End - s.Start}
		at, covered = spans[i].End, s.End
	}
	if covered != x.Rows {
		panic(fmt.Sprintf("nn: InsertRows: sequences cover %d of %d rows", covered, x.Rows))
	}
	from := func(m kernels.Mat, i int) []float32 {
		r := 0
		if own {
			r = i * n
		}
		return m.Data[r*m.Stride : r*m.Stride+n*m.Cols]
	}
	out := t.New(at, x.Cols)
	out.Needs = x.Needs || pre.Needs
	xm, pm, om := x.Mat(), pre.Mat(), out.Mat()
	kernels.Parallel(len(seqs), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			to := om.RowsOf(spans[i].Start, spans[i].End).Data
			copy(to, from(pm, i))
			copy(to[n*x.Cols:], xm.Data[seqs[i].Start*x.Cols:seqs[i].End*x.Cols])
		}
	})
	t.record(out, func() {
		g := out.gradMat()
		if x.Needs {
			m, acc := t.Grad(x)
			kernels.Parallel(len(seqs), 1, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					give(m.Data[seqs[i].Start*x.Cols:seqs[i].End*x.Cols], g.Data[(spans[i].Start+n)*x.Cols:spans[i].End*x.Cols], acc)
				}
			})
		}
		if pre.Needs {
			m, acc := t.Grad(pre)
			for i := range seqs {
				give(from(m, i), g.Data[spans[i].Start*x.Cols:(spans[i].Start+n)*x.Cols], acc || !own && i > 0)
			}
			if len(seqs) == 0 && !acc {
				clear(m.Data[:m.Rows*m.Cols])
			}
		}
	})
	return out, spans
}

// give adds src to dst, or copies it.
func give(dst, src []float32, add bool) {
	if add {
		kernels.Add(dst, dst, src)
	} else {
		copy(dst, src)
	}
}
