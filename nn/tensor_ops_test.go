package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func transpose64(m mat64) mat64 {
	return newMat64(m.c, m.r).each(func(i, j int) float64 { return m.at(j, i) })
}

func rows64(m mat64, lo, hi int) mat64 { return mat64{hi - lo, m.c, m.d[lo*m.c : hi*m.c]} }

func inverse64(m mat64) mat64 {
	n := m.r
	a := mat64{n, n, append([]float64(nil), m.d...)}
	out := newMat64(n, n).each(func(i, j int) float64 {
		if i == j {
			return 1
		}
		return 0
	})
	for c := range n { // well-conditioned: no pivoting
		f := a.at(c, c)
		for j := range n {
			a.set(c, j, a.at(c, j)/f)
			out.set(c, j, out.at(c, j)/f)
		}
		for r := range n {
			if g := a.at(r, c); r != c {
				for j := range n {
					a.add(r, j, -g*a.at(c, j))
					out.add(r, j, -g*out.at(c, j))
				}
			}
		}
	}
	return out
}

// positive is x²+0.5 on the tape and off it.
func positive(t *Tape, x *Var) *Var { return AddConst(t, Mul(t, x, x), 0.5) }

func mixCase(rows, cols, half int) opCase {
	return opCase{name: fmt.Sprintf("MixPairs/half=%d", half), inputs: [][2]int{{rows, cols}, {1, cols}, {1, cols}}, params: []int{1},
		run: func(t *Tape, v []*Var) *Var { return MixPairs(t, v[0], v[1], v[2], half) },
		twin: func(m []mat64) mat64 {
			return newMat64(rows, cols).each(func(i, j int) float64 {
				pair := j + half
				if j%(2*half) >= half {
					pair = j - half
				}
				return m[1].d[j]*m[0].at(i, j) + m[2].d[j]*m[0].at(i, pair)
			})
		}}
}

func tensorCases() []opCase {
	element := func(name string, op func(t *Tape, x *Var) *Var, f func(float64) float64) opCase {
		return opCase{name: name, inputs: [][2]int{{33, 70}}, run: func(t *Tape, v []*Var) *Var { return op(t, v[0]) },
			twin: func(m []mat64) mat64 {
				return newMat64(33, 70).each(func(i, j int) float64 { return f(m[0].at(i, j)) })
			}}
	}
	cases := []opCase{
		element("Exp", Exp, math.Exp),
		element("Log", func(t *Tape, x *Var) *Var { return Log(t, positive(t, x)) }, func(x float64) float64 { return math.Log(x*x + 0.5) }),
		element("Sqrt", func(t *Tape, x *Var) *Var { return Sqrt(t, positive(t, x)) }, func(x float64) float64 { return math.Sqrt(x*x + 0.5) }),
		element("Sin", Sin, math.Sin),
		element("Cos", Cos, math.Cos),
		element("Clamp", func(t *Tape, x *Var) *Var { return Clamp(t, x, -0.5, 0.75) }, func(x float64) float64 { return min(max(x, -0.5), 0.75) }),
		element("SoftCap", func(t *Tape, x *Var) *Var { return SoftCap(t, x, 1.5) }, func(x float64) float64 { return 1.5 * math.Tanh(x/1.5) }),
		element("Detach", func(t *Tape, x *Var) *Var { return Minus(t, x, Detach(t, Scale(t, x, 0))) }, func(x float64) float64 { return x }),
		{name: "Minus", inputs: [][2]int{{5, 7}, {5, 7}},
			run: func(t *Tape, v []*Var) *Var { return Minus(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(5, 7).each(func(i, j int) float64 { return m[0].at(i, j) - m[1].at(i, j) })
			}},
		{name: "Div", inputs: [][2]int{{50, 40}, {50, 40}},
			run: func(t *Tape, v []*Var) *Var { return Div(t, v[0], positive(t, v[1])) },
			twin: func(m []mat64) mat64 {
				return newMat64(50, 40).each(func(i, j int) float64 {
					return m[0].at(i, j) / (m[1].at(i, j)*m[1].at(i, j) + 0.5)
				})
			}},
		{name: "ScaleBy", inputs: [][2]int{{50, 40}, {1, 1}},
			run: func(t *Tape, v []*Var) *Var { return ScaleBy(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(50, 40).each(func(i, j int) float64 { return m[0].at(i, j) * m[1].d[0] })
			}},
		{name: "AddRow", inputs: [][2]int{{50, 40}, {1, 40}}, params: []int{1},
			run: func(t *Tape, v []*Var) *Var { return AddRow(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(50, 40).each(func(i, j int) float64 { return m[0].at(i, j) + m[1].d[j] })
			}},
		mixCase(50, 48, 12),
		mixCase(130, 64, 32),
		mixCase(3, 12, 1),
		{name: "MulCol", inputs: [][2]int{{50, 40}, {50, 1}},
			run: func(t *Tape, v []*Var) *Var { return MulCol(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(50, 40).each(func(i, j int) float64 { return m[0].at(i, j) * m[1].d[i] })
			}},
		{name: "RowNorm", inputs: [][2]int{{9, 40}},
			run: func(t *Tape, v []*Var) *Var { return RowNorm(t, v[0], 6) },
			twin: func(m []mat64) mat64 {
				return newMat64(9, 1).each(func(i, _ int) float64 {
					s := 0.0
					for _, v := range rows64(m[0], i, i+1).d {
						s += v * v
					}
					return max(6, math.Sqrt(s))
				})
			}},
		{name: "SoftmaxRows", inputs: [][2]int{{9, 40}},
			run: func(t *Tape, v []*Var) *Var { return SoftmaxRows(t, v[0]) },
			twin: func(m []mat64) mat64 {
				return newMat64(9, 40).each(func(i, j int) float64 {
					s := 0.0
					for _, v := range rows64(m[0], i, i+1).d {
						s += math.Exp(v)
					}
					return math.Exp(m[0].at(i, j)) / s
				})
			}},
		{name: "MeanRows", inputs: [][2]int{{9, 40}},
			run: func(t *Tape, v []*Var) *Var { return MeanRows(t, v[0], []Span{{0, 3}, {2, 9}, {4, 4}}) },
			twin: func(m []mat64) mat64 {
				return newMat64(3, 40).each(func(i, j int) (s float64) {
					sp := []Span{{0, 3}, {2, 9}, {4, 4}}[i]
					for r := sp.Start; r < sp.End; r++ {
						s += m[0].at(r, j) / float64(sp.End-sp.Start)
					}
					return s
				})
			}},
		{name: "View", inputs: [][2]int{{6, 10}}, run: func(t *Tape, v []*Var) *Var { return View(t, v[0], 4, 15) },
			twin: func(m []mat64) mat64 { return mat64{4, 15, append([]float64(nil), m[0].d...)} }},
		{name: "View of a parameter", inputs: [][2]int{{6, 10}}, params: []int{0},
			run: func(t *Tape, v []*Var) *Var { y := View(t, v[0], 4, 15); return Mul(t, y, y) },
			twin: func(m []mat64) mat64 {
				return newMat64(4, 15).each(func(i, j int) float64 { return m[0].d[i*15+j] * m[0].d[i*15+j] })
			}},
		{name: "Transpose", inputs: [][2]int{{70, 45}}, run: func(t *Tape, v []*Var) *Var { return Transpose(t, v[0]) },
			twin: func(m []mat64) mat64 { return transpose64(m[0]) }},
		{name: "TransposeEach", inputs: [][2]int{{3 * 4, 5}}, run: func(t *Tape, v []*Var) *Var { return TransposeEach(t, v[0], 3) },
			twin: func(m []mat64) mat64 {
				return newMat64(3*5, 4).each(func(i, j int) float64 { return m[0].at(i/5*4+j, i%5) })
			}},
		{name: "ConcatCols", inputs: [][2]int{{6, 9}, {6, 4}},
			run: func(t *Tape, v []*Var) *Var { return ConcatCols(t, v[0], v[1], v[0]) },
			twin: func(m []mat64) mat64 {
				return newMat64(6, 22).each(func(i, j int) float64 {
					if j >= 9 && j < 13 {
						return m[1].at(i, j-9)
					}
					return m[0].at(i, j%13)
				})
			}},
		{name: "RepeatRows", inputs: [][2]int{{2, 9}}, run: func(t *Tape, v []*Var) *Var { return RepeatRows(t, v[0], 3) },
			twin: func(m []mat64) mat64 { return newMat64(6, 9).each(func(i, j int) float64 { return m[0].at(i%2, j) }) }},
		{name: "Kron", inputs: [][2]int{{3, 4}, {5, 6}}, run: func(t *Tape, v []*Var) *Var { return Kron(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(15, 24).each(func(i, j int) float64 { return m[0].at(i/5, j/6) * m[1].at(i%5, j%6) })
			}},
	}
	for _, s := range []struct{ n, b int }{{1, 1}, {1, 6}, {7, 4}} {
		eye := &Var{Rows: s.n * s.b, Cols: s.b, Data: make([]float32, s.n*s.b*s.b)}
		for i := range s.n * s.b {
			eye.Data[i*s.b+i%s.b] = 6
		}
		cases = append(cases, opCase{name: "Inverse", inputs: [][2]int{{s.n * s.b, s.b}},
			run: func(t *Tape, v []*Var) *Var { return Inverse(t, Sum(t, v[0], eye), s.n) },
			twin: func(m []mat64) mat64 {
				out := mat64{r: s.n * s.b, c: s.b}
				for i := range s.n {
					x := newMat64(s.b, s.b).each(func(r, c int) float64 {
						return m[0].at(i*s.b+r, c) + float64(eye.Data[r*s.b+c])
					})
					out.d = append(out.d, inverse64(x).d...)
				}
				return out
			}})
	}
	for _, n := range []int{1, 3, 20} {
		for mode := range 4 {
			transA, transB := mode&1 == 1, mode&2 == 2
			r, k, c := 5, 6, 7
			a, b := [2]int{n * r, k}, [2]int{n * k, c}
			if transA {
				a = [2]int{n * k, r}
			}
			if transB {
				b = [2]int{n * c, k}
			}
			cases = append(cases, opCase{name: "BatchMatMul", inputs: [][2]int{a, b},
				run: func(t *Tape, v []*Var) *Var { return BatchMatMul(t, v[0], v[1], n, transA, transB) },
				twin: func(m []mat64) mat64 {
					out := mat64{r: n * r, c: c}
					for i := range n {
						x, y := rows64(m[0], i*a[0]/n, (i+1)*a[0]/n), rows64(m[1], i*b[0]/n, (i+1)*b[0]/n)
						if transA {
							x = transpose64(x)
						}
						if !transB {
							y = transpose64(y)
						}
						out.d = append(out.d, mulT(x, y).d...)
					}
					return out
				}})
		}
	}
	for _, s := range []struct {
		blocks, b     int
		shared, trans bool
	}{{1, 5, false, false}, {3, 5, false, false}, {3, 5, false, true}, {2, 8, false, false}, {3, 9, false, false}, {3, 9, false, true},
		{20, 10, false, true}, {4, 5, true, false}, {4, 5, true, true}} {
		const rows = 9
		b := s.b
		size := [2]int{s.blocks * b, b}
		if s.shared {
			size[0] = b
		}
		cases = append(cases, opCase{name: "BlockDiag", inputs: [][2]int{{rows, s.blocks * b}, size}, params: []int{1},
			run: func(t *Tape, v []*Var) *Var { return BlockDiag(t, v[0], v[1], s.blocks, s.trans) },
			twin: func(m []mat64) mat64 {
				return newMat64(rows, s.blocks*b).each(func(i, j int) (sum float64) {
					base := j / b * b
					top := base
					if s.shared {
						top = 0
					}
					for k := range b {
						w := m[1].at(top+k, j-base)
						if s.trans {
							w = m[1].at(top+j-base, k)
						}
						sum += m[0].at(i, base+k) * w
					}
					return sum
				})
			}})
	}
	cols := []int32{4, 0, 4, 2}
	return append(cases,
		opCase{name: "SelectCols", inputs: [][2]int{{7, 5}}, run: func(t *Tape, v []*Var) *Var { return SelectCols(t, v[0], cols) },
			twin: func(m []mat64) mat64 {
				return newMat64(7, 4).each(func(i, j int) float64 { return m[0].at(i, int(cols[j])) })
			}},
		opCase{name: "ScatterRows", inputs: [][2]int{{4, 9}}, run: func(t *Tape, v []*Var) *Var { return ScatterRows(t, v[0], cols, 6) },
			twin: func(m []mat64) mat64 {
				out := newMat64(6, 9)
				for i, r := range cols {
					for j := range 9 {
						out.add(int(r), j, m[0].at(i, j))
					}
				}
				return out
			}},
		opCase{name: "Gather", inputs: [][2]int{{2, 3}}, run: func(t *Tape, v []*Var) *Var { return Gather(t, v[0], []int32{5, -1, 0, 5, 1, -1}, 3, 2) },
			twin: func(m []mat64) mat64 {
				d := m[0].d
				return mat64{3, 2, []float64{d[5], 0, d[0], d[5], d[1], 0}}
			}},
		opCase{name: "Scatter", inputs: [][2]int{{1, 4}}, run: func(t *Tape, v []*Var) *Var { return Scatter(t, v[0], []int32{5, 1, 0, 5}, 2, 3) },
			twin: func(m []mat64) mat64 {
				d := m[0].d
				return mat64{2, 3, []float64{d[2], d[1], 0, 0, 0, d[0] + d[3]}}
			}},
	)
}

func TestTensorOps(t *testing.T) {
	for _, c := range tensorCases() {
		checkOp(t, c)
	}
}

func TestInverseOfSingular(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	y := Inverse(tape, &Var{Rows: 4, Cols: 2, Data: []float32{1, 2, 2, 4, 0, 1, 1, 0}}, 2)
	require.True(t, math.IsNaN(float64(y.Data[0])))
	require.Equal(t, []float32{0, 1, 1, 0}, y.Data[4:], "needs a pivot")
}
