package nn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
)

// A watched product gives the gradient of a factor that the tape does not know, with
// and without a gradient of its input.
func TestWatch(t *testing.T) {
	for _, needs := range []bool{true, false} {
		tape := NewTape()
		tape.mem.poison = true
		tape.Train = true
		x := &Var{Rows: 2, Cols: 3, Data: []float32{1, 2, 3, 4, 5, 6}, Needs: needs}
		h := relay(tape, x)
		y := Scale(tape, h, 2)
		var sum float32
		tape.Watch(y, func(dy kernels.Mat) {
			for i, d := range dy.Data {
				sum += d * h.Mat().Data[i]
			}
		}, h)
		tape.Discard(h)
		z := Scale(tape, y, 10)
		tape.Discard(y)
		out := Add(tape, Scale(tape, z, 1), z)
		g, _ := tape.Grad(out)
		for i := range g.Data {
			g.Data[i] = float32(i)
		}
		tape.Backward()
		require.Equal(t, float32(20*(2+2*3+3*4+4*5+5*6)), sum)
		if needs {
			require.Equal(t, []float32{0, 40, 80, 120, 160, 200}, x.Grad)
		} else {
			require.Nil(t, x.Grad)
		}
		require.Nil(t, y.Data)
		require.Nil(t, y.Grad)
		tape.Close()
	}
}
