package lokr

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/nn/nntest"
)

// The update from the formed matrix and from the factors is the same, and so are its
// gradients; finite differences say so too. The sizes blend either side.
func TestWays(t *testing.T) {
	for _, size := range [][4]int{{3, 2, 5, 4}, {2, 4, 3, 5}, {1, 1, 3, 2}, {4, 4, 2, 6}} {
		rows := gradRows + 11
		var grads [2][][]float32
		for way := range grads {
			s := &site{cfg: &config{}, scale: 2, outer: [2]int{size[0], size[1]}, inner: [2]int{size[2], size[3]}}
			s.w1 = nntest.Fill(nn.NewParam("w1", size[0], size[1]), 1, 0.5)
			s.w2 = nntest.Fill(nn.NewParam("w2", size[2], size[3]), 2, 0.5)
			if way == 1 { // the same as product with a matrix of ones on the diagonal
				s.w2a, s.w2b = s.w2, nn.NewParam("one", size[3], size[3])
				for i := range size[3] {
					s.w2b.V.Data[i*size[3]+i] = 1
				}
				s.w2 = nil
			}
			out, in := size[0]*size[2], size[1]*size[3]
			w := nntest.Fill(nn.NewParam("w", out, in), 3, 0.5)
			w.V.Needs = false
			s.layer = &nn.LinearLayer{W: &nn.Weight{Name: "w", Out: out, In: in, P: w}}
			require.NoError(t, s.Attach(1))
			x := nntest.Fill(nn.NewParam("x", rows, in), 4, 1)
			params := []*nn.Param{s.w1, x, s.w2}
			if way == 1 {
				params[2] = s.w2a
			}
			loss := func(tape *nn.Tape) float64 {
				require.Equal(t, way == 0 && tape.Train, s.forms(tape, x.V))
				return nntest.Weighted(tape, s.layer.Forward(tape, x.V))
			}
			nntest.GradCheck(t, "lokr", params, loss)
			for _, p := range params {
				p.ZeroGrad()
			}
			tape := nn.NewTape()
			tape.Train = true
			loss(tape)
			tape.Backward()
			for _, p := range params {
				grads[way] = append(grads[way], append([]float32(nil), p.V.Grad...))
			}
		}
		for i := range grads[0] {
			largest := 0.0
			for _, g := range grads[0][i] {
				largest = max(largest, math.Abs(float64(g)))
			}
			// Sums over the rows, after and before products of up to 20 terms.
			require.InDeltaSlice(t, grads[0][i], grads[1][i], bound.Spread(rows+40)*largest)
		}
	}
}
