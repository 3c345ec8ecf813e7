package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFastActivations: the slice forms are the functions. 3e-7 is 5 half units in the last
// place of 1: what an exponential, a division and a product leave, and the error of Phi in
// GELU (kernels). The slopes of GELU multiply the error of their gate by up to x and 1+x²
// where it is not yet 0 or 1: 3e-6 is a safety factor of 1.5 over the 2e-6 measured in the
// worst of the tiers.
func TestFastActivations(t *testing.T) {
	for _, f := range []Activation{ReLU, Sigmoid, Tanh, SiLU, GELU, GELUTanh} {
		var x []float32
		for i := -24000; i <= 24000; i++ {
			x = append(x, float32(i)/1500)
		}
		x = append(x, 90, -90, 3000, -3000, 1e10, -1e10, 1e-8, -1e-8, 1e-30)
		for lo := 0; lo < len(x); lo += sliceLen {
			part := x[lo:min(lo+sliceLen, len(x))]
			y, d := make([]float32, len(part)), make([]float32, len(part))
			f.fs(y, part)
			f.ds(d, part)
			for i, v := range part {
				want := f.F(float64(v))
				require.InDelta(t, want, float64(y[i]), 3e-7*math.Max(1, math.Abs(want)), "%s(%g)", f.Name, v)
				require.InDelta(t, f.D(float64(v)), float64(d[i]), 3e-6, "slope of %s at %g", f.Name, v)
			}
		}
	}
	// x - x³/3 is x to 3e-11 here; 1e-6 is some 16 roundings, cancelling 1 would leave 6e-3.
	y := []float32{0}
	tanhTo(y, []float32{1e-5})
	require.InEpsilon(t, 1e-5, float64(y[0]), 1e-6, "no cancellation near 0")
}

func BenchmarkApply(b *testing.B) {
	x := &Var{Rows: 1024, Cols: 3072, Data: sin32(1024*3072, 1.7), Needs: true}
	for _, f := range []Activation{ReLU, Tanh, SiLU, GELU, GELUTanh} {
		for _, train := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/train=%v", f.Name, train), func(b *testing.B) {
				tape := NewTape()
				defer tape.Close()
				tape.Train = train
				for b.Loop() {
					tape.Reset()
					y := Apply(tape, x, f)
					if train {
						tape.Grad(y)
						tape.Backward()
					}
				}
			})
		}
	}
}
