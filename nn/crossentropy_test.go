package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

// loss64 is the weighted sum of -log softmax over labelled rows, by the definition.
func loss64(logits mat64, labels []int32, weights []float32) (sum float64, n int) {
	for i, l := range labels {
		if l < 0 {
			continue
		}
		s := 0.0
		for j := range logits.c {
			s += math.Exp(logits.at(i, j))
		}
		weight := 1.0
		if weights != nil {
			weight = float64(weights[i])
		}
		sum += weight * (math.Log(s) - logits.at(i, int(l)))
		n++
	}
	return sum, n
}

func TestCrossEntropy(t *testing.T) {
	old := logitsAtOnce
	defer func() { logitsAtOnce = old; kernels.SetThreads(0) }()

	const rows, dim, vocab, r = 41, 32, 70, 3
	labels := make([]int32, rows)
	for i := range labels {
		labels[i] = int32(i * 7 % vocab)
		if i%5 == 2 {
			labels[i] = -100
		}
	}
	const gradScale = 0.25
	all := make([]int32, rows)
	weights := make([]float32, rows)
	for i := range weights {
		weights[i] = float32(i%4) / 2 // some are 0
	}
	quant, quant64 := frozen(tensor.Q8_0, vocab, dim, sin32(vocab*dim, 0.3))
	data := map[string][]float32{
		"h": sin32(rows*dim, 1.1), "w": sin32(vocab*dim, 0.3), "bias": sin32(vocab, 2.1),
		"a": sin32(r*dim, 0.9), "b": sin32(vocab*r, 1.7), "row": sin32(vocab, 0.13),
	}
	sizes := map[string][2]int{"h": {rows, dim}, "w": {vocab, dim}, "bias": {1, vocab}, "a": {r, dim}, "b": {vocab, r}, "row": {1, vocab}}

	for _, c := range []struct {
		name   string
		labels []int32
		train  []string
		head   func(v map[string]*Var) *LinearLayer
		twin   func(m map[string]mat64) mat64
	}{
		{"frozen quantised", labels, []string{"h"},
			func(map[string]*Var) *LinearLayer { return &LinearLayer{W: quant} },
			func(m map[string]mat64) mat64 { return mulT(m["h"], quant64) }},
		{"every row", all, []string{"h"},
			func(map[string]*Var) *LinearLayer { return &LinearLayer{W: quant} },
			func(m map[string]mat64) mat64 { return mulT(m["h"], quant64) }},
		{"trainable", labels, []string{"h", "w", "bias"},
			func(v map[string]*Var) *LinearLayer {
				return &LinearLayer{W: asParam(v["w"]), Bias: asParam(v["bias"])}
			},
			func(m map[string]mat64) mat64 {
				y := mulT(m["h"], m["w"])
				return y.each(func(i, j int) float64 { return y.at(i, j) + m["bias"].at(0, j) })
			}},
		{"low-rank", labels, []string{"h", "a", "b"},
			func(v map[string]*Var) *LinearLayer {
				l := &LinearLayer{W: quant}
				l.AddLowRank(func(*Tape, *Var) LowRank { return LowRank{A: v["a"], B: v["b"], Scale: 2} })
				return l
			},
			func(m map[string]mat64) mat64 {
				y, z := mulT(m["h"], quant64), mulT(mulT(m["h"], m["a"]), m["b"])
				return y.each(func(i, j int) float64 { return y.at(i, j) + 2*z.at(i, j) })
			}},
		{"low-rank of its own input", labels, []string{"h", "a", "b"},
			func(v map[string]*Var) *LinearLayer {
				l := &LinearLayer{W: quant}
				l.AddLowRank(func(t *Tape, x *Var) LowRank { return LowRank{X: relay(t, x), A: v["a"], B: v["b"], Scale: 2} })
				return l
			},
			func(m map[string]mat64) mat64 {
				y, z := mulT(m["h"], quant64), mulT(mulT(m["h"], m["a"]), m["b"])
				return y.each(func(i, j int) float64 { return y.at(i, j) + 2*z.at(i, j) })
			}},
		{"wrapped", labels, []string{"h", "row"},
			func(v map[string]*Var) *LinearLayer {
				l := &LinearLayer{W: quant}
				l.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var { return MulRow(t, next(t, x), v["row"]) })
				return l
			},
			func(m map[string]mat64) mat64 {
				y := mulT(m["h"], quant64)
				return y.each(func(i, j int) float64 { return y.at(i, j) * m["row"].at(0, j) })
			}},
		{"capped", labels, []string{"h", "a", "b"},
			func(v map[string]*Var) *LinearLayer {
				l := &LinearLayer{W: quant, Cap: 2}
				l.AddLowRank(func(*Tape, *Var) LowRank { return LowRank{A: v["a"], B: v["b"], Scale: 2} })
				return l
			},
			func(m map[string]mat64) mat64 {
				y, z := mulT(m["h"], quant64), mulT(mulT(m["h"], m["a"]), m["b"])
				return y.each(func(i, j int) float64 { return 2 * math.Tanh((y.at(i, j)+2*z.at(i, j))/2) })
			}},
		{"wrapped, capped", labels, []string{"h", "row"},
			func(v map[string]*Var) *LinearLayer {
				l := &LinearLayer{W: quant, Cap: 3}
				l.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var { return MulRow(t, next(t, x), v["row"]) })
				return l
			},
			func(m map[string]mat64) mat64 {
				y := mulT(m["h"], quant64)
				return y.each(func(i, j int) float64 { return 3 * math.Tanh(y.at(i, j)*m["row"].at(0, j)/3) })
			}},
	} {
		for name, weights := range map[string][]float32{"": nil, ", weighted": weights} {
			t.Run(c.name+name, func(t *testing.T) {
				loss := func(tape *Tape, h *Var, head *LinearLayer) (float64, int) {
					if weights == nil {
						return CrossEntropy(tape, h, head, c.labels, gradScale)
					}
					return WeightedCrossEntropy(tape, h, head, c.labels, weights, gradScale)
				}
				in64 := map[string]mat64{}
				for k, d := range data {
					m := newMat64(sizes[k][0], sizes[k][1])
					for i, v := range d {
						m.d[i] = float64(v)
					}
					in64[k] = m
				}
				want, wantN := loss64(c.twin(in64), c.labels, weights)
				first := map[string][]float32{}
				for _, mode := range []struct{ threads, chunk int }{{1, old}, {2, old}, {3, old}, {8, old}, {2, 16 * vocab}} {
					kernels.SetThreads(mode.threads)
					logitsAtOnce = mode.chunk
					tape := NewTape()
					tape.mem.poison = true
					tape.Train = true
					v := map[string]*Var{}
					for k, d := range data {
						v[k] = &Var{Rows: sizes[k][0], Cols: sizes[k][1], Data: d}
					}
					for _, k := range c.train {
						v[k].Needs = true
					}
					h := relay(tape, v["h"])
					sum, n := loss(tape, h, c.head(v))
					tape.Discard(h)
					require.Equal(t, wantN, n)
					// The rows' losses are added in float64. One is off by the roundings of a dot
					// product of 32 and a sum of 70: bound.Spread(102) is 2.4e-6, of 41 that do not
					// depend on each other 4e-7.
					require.InEpsilon(t, want, sum, 1e-6)
					tape.Backward()
					for _, k := range c.train {
						if mode.chunk == old {
							if first[k] == nil {
								first[k] = append([]float32(nil), v[k].Grad...)
							}
							requireBits(t, first[k], v[k].Grad, "gradient of %s on %d threads", k, mode.threads)
						}
						grad := make([]float64, len(v[k].Grad))
						for j := range grad {
							grad[j] = math.NaN()
						}
						for j := 0; j < len(grad); j += 1 + len(grad)/40 {
							const step = 1e-5
							m := in64[k]
							old := m.d[j]
							m.d[j] = old + step
							up, _ := loss64(c.twin(in64), c.labels, weights)
							m.d[j] = old - step
							down, _ := loss64(c.twin(in64), c.labels, weights)
							m.d[j] = old
							grad[j] = gradScale * (up - down) / (2 * step)
						}
						requireClose(t, grad, v[k].Grad, 1, 2e-5, "gradient of %s on %d threads, %d logits at once", k, mode.threads, mode.chunk)
					}

					tape.Reset()
					tape.Train = false
					sum, n = loss(tape, v["h"], c.head(v))
					require.Equal(t, wantN, n)
					require.InEpsilon(t, want, sum, 1e-6)
					tape.Close()
				}
			})
		}
	}
}

func TestCrossEntropyExtremes(t *testing.T) {
	// Logits far apart: the loss of an improbable label must not become infinite.
	w, _ := frozen(tensor.F32, 3, 1, []float32{500, 0, -500})
	for _, train := range []bool{false, true} {
		for label, want := range []float64{0, 500, 1000} {
			tape := NewTape()
			tape.Train = train
			h := &Var{Rows: 1, Cols: 1, Data: []float32{1}, Needs: true}
			sum, n := CrossEntropy(tape, h, &LinearLayer{W: w}, []int32{int32(label)}, 1)
			require.Equal(t, 1, n)
			require.InDelta(t, want, sum, bound.Gamma(4)*want, fmt.Sprint(train)) // two products, log-sum-exp, a difference
			tape.Close()
		}
	}
	tape := NewTape()
	sum, n := CrossEntropy(tape, &Var{Rows: 2, Cols: 1, Data: []float32{1, 1}}, &LinearLayer{W: w}, []int32{-1, -100}, 1)
	require.Zero(t, sum)
	require.Zero(t, n)
}

func TestFlushTiny(t *testing.T) {
	x := []float32{1, 0.1, 1e-20, 1e-30, 1e-36, 1e-39, 1e-45, 0}
	want := append([]float32(nil), x...)
	flushTiny(x)
	require.Equal(t, want[:3], x[:3])
	require.InEpsilon(t, want[3], x[3], 1e-6) // what is added and taken off again may round: 6e-8 of 1e-30 and more
	for _, v := range x {
		require.True(t, v == 0 || v > 1.2e-38, "%g is subnormal", v)
	}
	require.Equal(t, []float32{0, 0, 0}, x[5:])
	far := make([]float32, 3000)
	for i := range far {
		far[i] = 1e-41
	}
	flushTiny(far)
	require.Equal(t, make([]float32, 3000), far)
}
