package nn

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

func TestRowNorms(t *testing.T) {
	defer kernels.SetThreads(0)
	const in, out = 96, 160
	a := &Var{Rows: 3, Cols: in, Data: sin32(3*in, 0.9)}
	b := &Var{Rows: out, Cols: 3, Data: sin32(out*3, 1.7)}
	for _, transposed := range []bool{false, true} {
		rows, cols, rowStep, colStep := out, in, in, 1
		if transposed {
			rows, cols, rowStep, colStep = in, out, 1, out
		}
		w, w64 := frozen(tensor.Q8_0, rows, cols, sin32(rows*cols, 0.3))
		w.Out, w.In, w.Transposed = out, in, transposed
		var first []float32
		for _, threads := range []int{1, 3} {
			kernels.SetThreads(threads)
			got := RowNorms(w, LowRank{A: a, B: b, Scale: 0.5}, LowRank{A: a, B: b, Scale: -0.25}, LowRank{A: a})
			require.Len(t, got, out)
			if first != nil {
				requireBits(t, first, got, "norms")
			}
			first = got
		}
		for o := range out {
			sum := 0.0
			for i := range in {
				v := w64.d[o*rowStep+i*colStep]
				for r := range 3 {
					v += 0.25 * float64(b.Data[o*3+r]) * float64(a.Data[r*in+i])
				}
				sum += v * v
			}
			// The root halves the relative error of a sum of 96 squares, all positive, of sums of
			// 4 products: bound.Gamma(96+2*4)/2 is 3e-6 where those do not cancel.
			require.InEpsilon(t, math.Sqrt(sum), float64(first[o]), 1e-5)
		}
	}
}
