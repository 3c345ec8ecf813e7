package tuner

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// Skew returns one skew-symmetric matrix per row of x, [x.Rows*b, b]: the row
// holds the b(b-1)/2 elements above the diagonal, row by row, which lie below it
// with the other sign.
func Skew(t *nn.Tape, x *nn.Var, b int) *nn.Var {
	out := t.New(x.Rows*b, b)
	out.Needs = x.Needs
	src, dst := x.Mat(), out.Mat()
	kernels.Parallel(x.Rows, 4, func(lo, hi int) {
		for n := lo; n < hi; n++ {
			v := src.Row(n)
			for i, at := 0, 0; i < b; i++ {
				dst.Row(n*b + i)[i] = 0
				for j := i + 1; j < b; j++ {
					dst.Row(n*b + i)[j] = v[at]
					dst.Row(n*b + j)[i] = -v[at]
					at++
				}
			}
		}
	})
	t.Record(out, func() {
		g, acc := t.Grad(x)
		d := kernels.MatOf(out.Grad, out.Rows, out.Cols)
		kernels.Parallel(x.Rows, 4, func(lo, hi int) {
			for n := lo; n < hi; n++ {
				v := g.Row(n)
				if !acc {
					clear(v)
				}
				for i, at := 0, 0; i < b; i++ {
					for j := i + 1; j < b; j++ {
						v[at] += d.Row(n*b + i)[j] - d.Row(n*b + j)[i]
						at++
					}
				}
			}
		})
	}, out)
	return out
}

// PlusIdentity returns x + c I for each of the square matrices that lie one below
// the other in x.
func PlusIdentity(t *nn.Tape, x *nn.Var, c float32) *nn.Var {
	eye := t.New(x.Rows, x.Cols)
	m := eye.Mat()
	for r := range m.Rows {
		clear(m.Row(r))
		m.Row(r)[r%x.Cols] = c
	}
	return nn.Add(t, x, eye)
}

// Cayley returns (I - Q)(I + Q)^-1, which is 2(I + Q)^-1 - I, for each of the n
// skew-symmetric matrices in q: rotations.
func Cayley(t *nn.Tape, q *nn.Var, n int) *nn.Var {
	return PlusIdentity(t, nn.Scale(t, nn.Inverse(t, PlusIdentity(t, q, 1), n), 2), -1)
}
