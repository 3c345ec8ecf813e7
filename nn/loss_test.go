package nn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The numbers are those of torch.nn.functional (float64), reduction "sum", written in nine
// digits. An element is a handful of float32 operations, of which an exponential and a
// logarithm are off by 2 units in the last place: within 1e-6, 16 roundings.
func TestElementLosses(t *testing.T) {
	x := []float32{-90, -1.5, 0, 0.25, 3, 60}
	y := []float32{0, 1, 0.5, 0, 0.75, 1}
	for _, c := range []struct {
		name string
		f    func(*Tape, *Var, []float32, float32) (float64, int)
		sum  float64
		grad []float64
	}{
		{"bce", BCEWithLogits, 4.01908723, []float64{8.19401262e-40, -0.817574476, 0, 0.562176501, 0.202574127, 0}},
		{"mse", MSE, 11592.625, []float64{-180, -5, -1, 0.5, 4.5, 118}},
	} {
		for _, train := range []bool{true, false} {
			tape := NewTape()
			tape.Train = train
			leaf := &Var{Rows: 3, Cols: 2, Data: x, Needs: true}
			v := relay(tape, leaf)
			sum, n := c.f(tape, v, y, 0.5)
			require.Equal(t, 6, n)
			require.InDelta(t, c.sum, sum, 1e-6*c.sum, c.name)
			tape.Backward()
			if !train {
				require.Nil(t, leaf.Grad)
				continue
			}
			for i, g := range c.grad {
				require.InDelta(t, g/2, float64(leaf.Grad[i]), 1e-6*max(1, g, -g), "%s %d", c.name, i)
			}
		}
	}
	require.Panics(t, func() { MSE(NewTape(), &Var{Rows: 1, Cols: 2, Data: x[:2]}, y, 1) })
}
