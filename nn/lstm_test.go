package nn

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// lstm64 is the recurrence by the definition.
func lstm64(x, ih, hh, bias mat64, reverse bool) mat64 {
	n := hh.c
	out, h, c := newMat64(x.r, n), newMat64(1, n), newMat64(1, n)
	for s := range x.r {
		r := s
		if reverse {
			r = x.r - 1 - s
		}
		a, b := mulT(rows64(x, r, r+1), ih), mulT(h, hh)
		gate := func(k, j int) float64 { return a.at(0, k*n+j) + b.at(0, k*n+j) + bias.d[k*n+j] }
		for j := range n {
			c.d[j] = sigmoid(gate(1, j))*c.d[j] + sigmoid(gate(0, j))*math.Tanh(gate(2, j))
			out.set(r, j, sigmoid(gate(3, j))*math.Tanh(c.d[j]))
		}
		copy(h.d, out.d[r*n:(r+1)*n])
	}
	return out
}

func TestLSTMGradients(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		for _, steps := range []int{1, 6} {
			checkOp(t, opCase{name: "LSTM", inputs: [][2]int{{steps, 5}, {12, 5}, {12, 3}, {1, 12}}, params: []int{1, 2},
				run: func(t *Tape, v []*Var) *Var {
					return LSTM(t, v[0], LSTMWeights{v[1], v[2], v[3], nil}, reverse)
				},
				twin: func(m []mat64) mat64 { return lstm64(m[0], m[1], m[2], m[3], reverse) }})
		}
	}
}

// TestLSTMOfTorch: two layers in both directions, against torch.nn.LSTM. Both sides are
// float32. A gate sums up to 8+4 products: sqrt(2)*bound.Spread(12) is 1.2e-6. 1e-6 is a
// safety factor of 7 over the 1.4e-7 measured of the outputs, on all tiers; gradients, which
// are sums over 5 steps besides, are off by up to 9.5e-7, half of 2e-6.
func TestLSTMOfTorch(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var golden struct {
		LSTM struct {
			Names  []string
			Shapes [][]int
			Out    []float64
			XGrad  []float64 `json:"x_grad"`
			Grads  [][]float64
		}
	}
	require.NoError(t, json.Unmarshal(raw, &golden))
	g := golden.LSTM
	var params []*Param
	for i, s := range g.Shapes {
		p := NewParam(g.Names[i], s...)
		copy(p.V.Data, sin32(len(p.V.Data), 0.3+0.17*float64(i)))
		params = append(params, p)
	}
	tape := NewTape()
	defer tape.Close()
	tape.Train = true
	x := &Var{Rows: 5, Cols: 3, Data: sin32(15, 0.7), Needs: true}
	y := x
	for at := 0; at < len(params); at += 8 {
		dir := func(p []*Param, reverse bool) *Var {
			return LSTM(tape, y, LSTMWeights{p[0].V, p[1].V, p[2].V, p[3].V}, reverse)
		}
		y = ConcatCols(tape, dir(params[at:], false), dir(params[at+4:], true))
	}
	requireClose(t, g.Out, y.Data, 1, 1e-6, "output")
	d, _ := tape.Grad(y)
	copy(d.Data, sin32(len(d.Data), 0.41))
	tape.Backward()
	requireClose(t, g.XGrad, x.Grad, 1, 2e-6, "gradient of the input")
	for i, p := range params {
		requireClose(t, g.Grads[i], p.V.Grad, 1, 2e-6, "gradient of %s", p.Name)
	}
}
