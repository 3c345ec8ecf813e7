package nn

import (
	"fmt"
	"math"
	"testing"
)

func TestGatedAndGELU(t *testing.T) {
	cases := []opCase{{
		name: "GELUTanh", inputs: [][2]int{{7, 300}},
		run: func(t *Tape, v []*Var) *Var { return Apply(t, v[0], GELUTanh) },
		twin: func(m []mat64) mat64 {
			return newMat64(7, 300).each(func(i, j int) float64 { return GELUTanh.F(m[0].at(i, j)) })
		},
	}}
	for _, f := range []Activation{SiLU, GELUTanh, GELU, ReLU} {
		cases = append(cases, opCase{
			name: "Gated/" + f.Name, inputs: [][2]int{{6, 200}, {6, 200}},
			run: func(t *Tape, v []*Var) *Var { return Gated(t, f, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(6, 200).each(func(i, j int) float64 { return f.F(m[0].at(i, j)) * m[1].at(i, j) })
			},
		})
	}
	for _, pieces := range []int{1, 3} {
		rows, cols := 5, 12
		n := cols / pieces
		cases = append(cases, opCase{
			name: fmt.Sprintf("RMSNormPlus1/%d", pieces), inputs: [][2]int{{rows, cols}, {1, n}}, params: []int{1},
			run: func(t *Tape, v []*Var) *Var { return RMSNormPlus1(t, v[0], asParam(v[1]), 1e-3) },
			twin: func(m []mat64) mat64 {
				return newMat64(rows, cols).each(func(i, j int) float64 {
					var sq float64
					for k := range n {
						sq += m[0].at(i, j/n*n+k) * m[0].at(i, j/n*n+k)
					}
					return m[0].at(i, j) / math.Sqrt(sq/float64(n)+float64(float32(1e-3))) * (1 + m[1].at(0, j%n))
				})
			},
		})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { checkOp(t, c) })
	}
}
