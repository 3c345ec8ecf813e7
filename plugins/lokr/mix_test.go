package lokr

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/nn"
)

// Both ways of mixing: by a matrix for a whole row, and by turning.
func TestMix(t *testing.T) {
	for _, c := range []int{3, mixSize/2 + 1} {
		s := &site{outer: [2]int{3, 2}, w1: nn.NewParam("w1", 3, 2)}
		copy(s.w1.V.Data, []float32{1, -2, 0.5, 3, -1, 4})
		z := &nn.Var{Rows: 2 * 5, Cols: c, Data: make([]float32, 2*5*c)}
		for i := range z.Data {
			z.Data[i] = float32(math.Sin(float64(i)))
		}
		tape := nn.NewTape()
		got := s.mix(tape, z, 5, 2)
		require.Equal(t, [2]int{3 * 5, c}, [2]int{got.Rows, got.Cols})
		for n := range 5 {
			for o := range 3 {
				for j := range c {
					want := float32(0)
					for i := range 2 {
						want += 2 * s.w1.V.Data[o*2+i] * z.Data[(n*2+i)*c+j]
					}
					require.InDelta(t, want, got.Data[(n*3+o)*c+j], 1e-5)
				}
			}
		}
	}
}
