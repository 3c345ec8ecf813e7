package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

// asParam lets a leaf of the harness be the matrix of a trainable weight.
func asParam(v *Var) *Weight {
	return &Weight{Name: "w", Out: v.Rows, In: v.Cols, P: &Param{Name: "w", V: v}}
}

func frozen(d *tensor.DType, rows, cols int, data []float32) (*Weight, mat64) {
	size, _ := d.Size(int64(rows * cols))
	b := make([]byte, size)
	d.Encode(b, data)
	t := &tensor.Tensor{Name: "w", Type: d, Shape: []int{rows, cols}, Data: b}
	kw, err := t.Weight()
	if err != nil {
		panic(err)
	}
	m := newMat64(rows, cols)
	dec, err := t.AllFloats()
	if err != nil {
		panic(err)
	}
	for i, v := range dec {
		m.d[i] = float64(v)
	}
	return &Weight{Name: "w", Out: rows, In: cols, Frozen: kw}, m
}

func sin32(n int, step float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Sin(float64(i+1) * step))
	}
	return x
}

func linearCases() []opCase {
	var cases []opCase
	for _, size := range [][3]int{{1, 32, 5}, {7, 64, 33}, {70, 32, 40}} {
		rows, in, out := size[0], size[1], size[2]
		for _, d := range []*tensor.DType{tensor.F32, tensor.BF16, tensor.Q8_0} {
			if d.Encode == nil {
				continue
			}
			w, w64 := frozen(d, out, in, sin32(out*in, 0.7))
			cases = append(cases, opCase{
				name:   fmt.Sprintf("Linear/%dx%dx%d/%s", rows, in, out, d),
				inputs: [][2]int{{rows, in}},
				run:    func(t *Tape, v []*Var) *Var { return LinearOp(t, v[0], w, nil) },
				twin:   func(m []mat64) mat64 { return mulT(m[0], w64) },
			})
			cases = append(cases, opCase{
				name:   fmt.Sprintf("Linear/%dx%dx%d/%s+2 low-rank", rows, in, out, d),
				inputs: [][2]int{{rows, in}, {4, in}, {out, 4}, {rows, in}, {3, in}, {out, 3}},
				params: []int{1, 2, 4, 5},
				run: func(t *Tape, v []*Var) *Var {
					return LinearOp(t, v[0], w, nil, LowRank{A: v[1], B: v[2], Scale: 0.5},
						LowRank{X: v[3], A: v[4], B: v[5], Scale: -2})
				},
				twin: func(m []mat64) mat64 {
					y, a, b := mulT(m[0], w64), mulT(mulT(m[0], m[1]), m[2]), mulT(mulT(m[3], m[4]), m[5])
					return y.each(func(i, j int) float64 { return y.at(i, j) + 0.5*a.at(i, j) - 2*b.at(i, j) })
				},
			})
			cases = append(cases, opCase{
				name:   fmt.Sprintf("Linear/%dx%dx%d/%s+2 changes of the weight", rows, in, out, d),
				inputs: [][2]int{{rows, in}, {out, in}, {3, in}, {out, 3}, {out, in}},
				run: func(t *Tape, v []*Var) *Var {
					return LinearOp(t, v[0], w, nil, LowRank{B: v[1], Scale: 0.5}, LowRank{A: v[2], B: v[3], Scale: 1}, LowRank{B: v[4], Scale: -2})
				},
				twin: func(m []mat64) mat64 {
					sum := newMat64(out, in).each(func(i, j int) float64 { return w64.at(i, j) + 0.5*m[1].at(i, j) - 2*m[4].at(i, j) })
					y, z := mulT(m[0], sum), mulT(mulT(m[0], m[2]), m[3])
					return y.each(func(i, j int) float64 { return y.at(i, j) + z.at(i, j) })
				},
			})
		}
		cases = append(cases, opCase{
			name:   fmt.Sprintf("Linear/%dx%dx%d/a change with a gradient of its own", rows, in, out),
			inputs: [][2]int{{rows, in}, {out, in}},
			params: []int{1},
			run: func(t *Tape, v []*Var) *Var {
				x, p := v[0], v[1]
				b := t.New(out, in)
				f := func(dst kernels.Mat) { copy(dst.Data, p.Data) }
				f(b.Mat())
				t.Recomputable(b, f)
				low := LowRank{B: b, Scale: 3}
				if p.Needs {
					low.Reads = []*Var{x}
					low.Grad = func(dy kernels.Mat, r0, r1 int) {
						m, acc := t.Grad(p)
						kernels.Gemm(m, acc, kernels.Term{A: dy, TransA: true, B: x.Mat().RowsOf(r0, r1), Scale: 3})
					}
				}
				w := &Weight{Name: "w", Out: out, In: in, P: &Param{V: &Var{Rows: out, Cols: in, Data: make([]float32, out*in)}}}
				return LinearOp(t, x, w, nil, low)
			},
			twin: func(m []mat64) mat64 {
				y := mulT(m[0], m[1])
				return y.each(func(i, j int) float64 { return 3 * y.at(i, j) })
			},
		}, opCase{
			name:   fmt.Sprintf("Linear/%dx%dx%d/trainable with bias", rows, in, out),
			inputs: [][2]int{{rows, in}, {out, in}, {1, out}},
			params: []int{1, 2},
			run: func(t *Tape, v []*Var) *Var {
				return LinearOp(t, v[0], asParam(v[1]), asParam(v[2]))
			},
			twin: func(m []mat64) mat64 {
				y := mulT(m[0], m[1])
				return y.each(func(i, j int) float64 { return y.at(i, j) + m[2].at(0, j) })
			},
		}, opCase{
			name:   fmt.Sprintf("Linear/%dx%dx%d/transposed trainable", rows, in, out),
			inputs: [][2]int{{rows, in}, {in, out}, {out, in}},
			params: []int{1},
			run: func(t *Tape, v []*Var) *Var {
				w := &Weight{Name: "w", Out: out, In: in, Transposed: true, P: &Param{V: v[1]}}
				return LinearOp(t, v[0], w, nil, LowRank{B: v[2], Scale: 3})
			},
			twin: func(m []mat64) mat64 {
				return newMat64(rows, out).each(func(i, j int) (s float64) {
					for k := range in {
						s += m[0].at(i, k) * (m[1].at(k, j) + 3*m[2].at(j, k))
					}
					return s
				})
			},
		}, opCase{
			name:   fmt.Sprintf("Linear/%dx%dx%d/factors only", rows, in, out),
			inputs: [][2]int{{rows, in}, {out, in}, {2, in}, {out, 2}},
			run: func(t *Tape, v []*Var) *Var {
				return LinearOp(t, v[0], nil, nil, LowRank{B: v[1], Scale: 3}, LowRank{A: v[2], B: v[3], Scale: 1}, LowRank{})
			},
			twin: func(m []mat64) mat64 {
				y, z := mulT(m[0], m[1]), mulT(mulT(m[0], m[2]), m[3])
				return y.each(func(i, j int) float64 { return 3*y.at(i, j) + z.at(i, j) })
			},
		}, opCase{
			name:   fmt.Sprintf("Linear/%dx%dx%d/scale 0", rows, in, out),
			inputs: [][2]int{{rows, in}, {2, in}, {out, 2}, {rows, in}},
			run: func(t *Tape, v []*Var) *Var {
				return LinearOp(t, v[0], nil, nil, LowRank{A: v[1], B: v[2]}, LowRank{X: v[3], A: v[1], B: v[2]})
			},
			twin: func(m []mat64) mat64 { return newMat64(rows, out) },
		})
	}
	return cases
}

func normCases() []opCase {
	var cases []opCase
	for _, s := range [][3]int{{1, 5, 1}, {9, 64, 1}, {130, 24, 1}, {6, 32, 4}} {
		rows, cols, pieces := s[0], s[1], s[2]
		n := cols / pieces
		cases = append(cases, opCase{
			name:   fmt.Sprintf("RMSNorm/%dx%d in %d", rows, cols, pieces),
			inputs: [][2]int{{rows, cols}, {1, n}},
			params: []int{1},
			run:    func(t *Tape, v []*Var) *Var { return RMSNorm(t, v[0], asParam(v[1]), 1e-3) },
			twin: func(m []mat64) mat64 {
				return newMat64(rows, cols).each(func(i, j int) float64 {
					ss, p := 0.0, j/n*n
					for k := p; k < p+n; k++ {
						ss += m[0].at(i, k) * m[0].at(i, k)
					}
					return m[0].at(i, j) / math.Sqrt(ss/float64(n)+float64(float32(1e-3))) * m[1].at(0, j-p)
				})
			},
		})
	}
	return cases
}

func elementCases() []opCase {
	silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
	var cases []opCase
	for _, s := range [][2]int{{1, 1}, {3, 17}, {80, 130}} {
		r, c := s[0], s[1]
		if r*c > 1000 {
			r, c = 33, 20
		}
		name := fmt.Sprintf("/%dx%d", r, c)
		cases = append(cases,
			opCase{name: "Add" + name, inputs: [][2]int{{r, c}, {r, c}},
				run: func(t *Tape, v []*Var) *Var { return Add(t, v[0], v[1]) },
				twin: func(m []mat64) mat64 {
					return newMat64(r, c).each(func(i, j int) float64 { return m[0].at(i, j) + m[1].at(i, j) })
				}},
			opCase{name: "Add to itself" + name, inputs: [][2]int{{r, c}},
				run: func(t *Tape, v []*Var) *Var { return Add(t, v[0], v[0]) },
				twin: func(m []mat64) mat64 {
					return newMat64(r, c).each(func(i, j int) float64 { return 2 * m[0].at(i, j) })
				}},
			opCase{name: "residual stream" + name, inputs: [][2]int{{r, c}, {1, c}},
				params: []int{1},
				run: func(t *Tape, v []*Var) *Var {
					// x + s(x) + s(x + s(x)), the inner sum read by two operations.
					x := Scale(t, v[0], 1)
					h := Add(t, x, MulRow(t, x, v[1]))
					y := MulRow(t, h, v[1])
					return Add(t, h, y)
				},
				twin: func(m []mat64) mat64 {
					return newMat64(r, c).each(func(i, j int) float64 {
						f := 1 + m[1].at(0, j)
						return m[0].at(i, j) * f * f
					})
				}},
			opCase{name: "Scale" + name, inputs: [][2]int{{r, c}},
				run: func(t *Tape, v []*Var) *Var { return Scale(t, v[0], -1.5) },
				twin: func(m []mat64) mat64 {
					return newMat64(r, c).each(func(i, j int) float64 { return -1.5 * m[0].at(i, j) })
				}},
			opCase{name: "MulRow" + name, inputs: [][2]int{{r, c}, {1, c}}, params: []int{1},
				run: func(t *Tape, v []*Var) *Var { return MulRow(t, v[0], v[1]) },
				twin: func(m []mat64) mat64 {
					return newMat64(r, c).each(func(i, j int) float64 { return m[0].at(i, j) * m[1].at(0, j) })
				}},
			opCase{name: "SwiGLU" + name, inputs: [][2]int{{r, c}, {r, c}},
				run: func(t *Tape, v []*Var) *Var { return SwiGLU(t, v[0], v[1]) },
				twin: func(m []mat64) mat64 {
					return newMat64(r, c).each(func(i, j int) float64 { return silu(m[0].at(i, j)) * m[1].at(i, j) })
				}},
		)
	}
	return cases
}

func gatherCases() []opCase {
	ids := []int32{3, 0, 3, 5, 3, 2}
	return []opCase{
		{name: "Embed", inputs: [][2]int{{6, 300}}, params: []int{0},
			run: func(t *Tape, v []*Var) *Var { return Embed(t, asParam(v[0]), ids, -1) },
			twin: func(m []mat64) mat64 {
				return newMat64(len(ids), 300).each(func(i, j int) float64 { return m[0].at(int(ids[i]), j) })
			}},
		{name: "GatherRows", inputs: [][2]int{{6, 17}},
			run: func(t *Tape, v []*Var) *Var { return GatherRows(t, v[0], ids) },
			twin: func(m []mat64) mat64 {
				return newMat64(len(ids), 17).each(func(i, j int) float64 { return m[0].at(int(ids[i]), j) })
			}},
		{name: "GatherCols", inputs: [][2]int{{4, 6}}, params: []int{0},
			run: func(t *Tape, v []*Var) *Var { return GatherCols(t, v[0], ids, -1) },
			twin: func(m []mat64) mat64 {
				return newMat64(len(ids), 4).each(func(i, j int) float64 { return m[0].at(j, int(ids[i])) })
			}},
	}
}

func ropeCases() []opCase {
	var cases []opCase
	for _, s := range []struct {
		name                 string
		rows, heads, dim, nf int
		scale                float32
	}{{"whole", 5, 3, 8, 4, 1}, {"partial", 5, 2, 8, 2, 1.25}} {
		freq := make([]float32, s.nf)
		for i := range freq {
			freq[i] = float32(math.Pow(100, -float64(i)/float64(s.nf)))
		}
		pos := []int32{0, 1, 2, 0, 7}
		twin := func(m mat64) mat64 {
			out := newMat64(m.r, m.c)
			copy(out.d, m.d)
			for r := range m.r {
				for h := range s.heads {
					for i := range s.nf {
						sn, cs := math.Sincos(float64(float32(pos[r]) * freq[i]))
						sn, cs = sn*float64(s.scale), cs*float64(s.scale)
						a, b := m.at(r, h*s.dim+i), m.at(r, h*s.dim+i+s.nf)
						out.set(r, h*s.dim+i, a*cs-b*sn)
						out.set(r, h*s.dim+i+s.nf, b*cs+a*sn)
					}
				}
			}
			return out
		}
		size := [][2]int{{s.rows, s.heads * s.dim}}
		table := NewRoPETable(freq, s.scale)
		cases = append(cases,
			opCase{name: "RoPE/" + s.name, inputs: size,
				run: func(t *Tape, v []*Var) *Var {
					y := Scale(t, v[0], 1)
					RoPE(t, y, s.dim, pos, table)
					return y
				},
				twin: func(m []mat64) mat64 { return twin(m[0]) }},
			// The rotated variable was read by an operation whose backward needs it as it was.
			opCase{name: "RoPE/" + s.name + " of a saved input", inputs: append(size, [2]int{1, s.heads * s.dim}), params: []int{1},
				run: func(t *Tape, v []*Var) *Var {
					y := Scale(t, v[0], 1)
					z := MulRow(t, y, v[1])
					RoPE(t, y, s.dim, pos, table)
					return Sum(t, y, z)
				},
				twin: func(m []mat64) mat64 {
					y := twin(m[0])
					return newMat64(y.r, y.c).each(func(i, j int) float64 { return y.at(i, j) + m[0].at(i, j)*m[1].at(0, j) })
				}},
			// The rotated variable itself is recomputed.
			opCase{name: "RoPE/" + s.name + " of a recomputed norm", inputs: append(size, [2]int{1, s.heads * s.dim}), params: []int{1},
				run: func(t *Tape, v []*Var) *Var {
					y := relay(t, v[0])
					RoPE(t, y, s.dim, pos, table)
					z := MulRow(t, y, v[1])
					t.Discard(y)
					return z
				},
				twin: func(m []mat64) mat64 {
					y := twin(m[0])
					return newMat64(y.r, y.c).each(func(i, j int) float64 { return y.at(i, j) * m[1].at(0, j) })
				}},
		)
	}
	return cases
}

// attention64 is softmax attention by the definition.
func attention64(q, k, v mat64, s AttnSpec, pk, pv mat64, bias ...mat64) mat64 {
	out := newMat64(q.r, s.Heads*s.HeadDim)
	seqs := s.Seqs
	if seqs == nil {
		seqs = []Span{{0, q.r}}
	}
	for seq, sp := range seqs {
		keys := sp
		if s.KeySeqs != nil {
			keys = s.KeySeqs[seq]
		}
		for h := range s.Heads {
			kv := h / (s.Heads / s.KVHeads)
			for r := sp.Start; r < sp.End; r++ {
				var w []float64
				var rows []int // >= 0 own, < 0 past -1-j
				for j := range pk.r {
					if s.Window > 0 && pk.r+r-sp.Start-j >= s.Window {
						continue
					}
					rows = append(rows, -1-j)
				}
				for j := keys.Start; j < keys.End; j++ {
					if s.Causal && j > r || s.Window > 0 && r-j >= s.Window {
						continue
					}
					rows = append(rows, j)
				}
				sum := 0.0
				for _, j := range rows {
					d := 0.0
					for c := range s.HeadDim {
						key := 0.0
						if j < 0 {
							key = pk.at(-1-j, kv*s.HeadDim+c)
						} else {
							key = k.at(j, kv*s.HeadDim+c)
						}
						d += q.at(r, h*s.HeadDim+c) * key
					}
					d *= float64(s.Scale)
					if s.SoftCap > 0 {
						d = float64(s.SoftCap) * math.Tanh(d/float64(s.SoftCap))
					}
					if place := pk.r + j - keys.Start; s.Bias != nil {
						if j < 0 {
							place = -1 - j
						}
						if place >= s.Bias.Unbiased {
							d += bias[0].at(s.Bias.Bucket(place-(r-sp.Start+pk.r+s.Bias.Offset)), h)
						}
					}
					e := math.Exp(d)
					w = append(w, e)
					sum += e
				}
				for i, j := range rows {
					for c := range s.HeadDim {
						val := 0.0
						if j < 0 {
							val = pv.at(-1-j, kv*s.HeadDim+c)
						} else {
							val = v.at(j, kv*s.HeadDim+c)
						}
						out.add(r, h*s.HeadDim+c, w[i]/sum*val)
					}
				}
			}
		}
	}
	return out
}

func attentionCases() []opCase {
	var cases []opCase
	for _, c := range []struct {
		name string
		rows int
		past int
		spec AttnSpec
		keys int // rows of keys, 0 for those of the queries
	}{
		{"one row", 1, 0, AttnSpec{Heads: 1, KVHeads: 1, HeadDim: 4, Causal: true}, 0},
		{"causal", 9, 0, AttnSpec{Heads: 2, KVHeads: 2, HeadDim: 4, Causal: true}, 0},
		{"grouped", 7, 0, AttnSpec{Heads: 6, KVHeads: 2, HeadDim: 3, Causal: true}, 0},
		{"both ways", 6, 0, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4}, 0},
		{"packed", 13, 0, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Causal: true, Seqs: []Span{{0, 5}, {5, 6}, {6, 13}}}, 0},
		{"packed with a gap", 12, 0, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Causal: true, Seqs: []Span{{1, 6}, {7, 11}}}, 0},
		{"past", 6, 5, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Causal: true}, 0},
		{"past, one query", 1, 7, AttnSpec{Heads: 4, KVHeads: 2, HeadDim: 4, Causal: true}, 0},
		{"past of two sequences", 11, 3, AttnSpec{Heads: 2, KVHeads: 2, HeadDim: 2, Causal: true, Seqs: []Span{{0, 5}, {5, 11}}}, 0},
		{"window", 14, 0, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Causal: true, Window: 4}, 0},
		{"window over the past", 9, 4, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 2, Causal: true, Window: 6}, 0},
		{"both ways, past", 6, 3, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4}, 0},
		{"both ways, past of two sequences", 11, 3, AttnSpec{Heads: 2, KVHeads: 2, HeadDim: 2, Seqs: []Span{{0, 5}, {5, 11}}}, 0},
		{"cross", 6, 0, AttnSpec{Heads: 4, KVHeads: 2, HeadDim: 3, KeySeqs: []Span{{0, 9}}}, 9},
		{"cross, packed", 13, 0, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Seqs: []Span{{0, 5}, {6, 7}, {7, 13}}, KeySeqs: []Span{{1, 4}, {4, 4}, {4, 9}}}, 10},
		{"cross, shared keys", 9, 2, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Seqs: []Span{{0, 7}, {7, 9}}, KeySeqs: []Span{{2, 6}, {0, 5}}}, 7},
		{"capped", 9, 2, AttnSpec{Heads: 4, KVHeads: 2, HeadDim: 4, Causal: true, SoftCap: 1.5}, 0},
		{"capped, few", 3, 2, AttnSpec{Heads: 4, KVHeads: 2, HeadDim: 4, Causal: true, SoftCap: 1.5}, 0},
		{"bias", 9, 0, AttnSpec{Heads: 2, KVHeads: 2, HeadDim: 4, Bias: &RelativeBias{}}, 0},
		{"bias, few", 4, 0, AttnSpec{Heads: 2, KVHeads: 2, HeadDim: 4, Bias: &RelativeBias{}}, 0},
		{"bias, causal, past", 9, 3, AttnSpec{Heads: 4, KVHeads: 2, HeadDim: 4, Causal: true, Bias: &RelativeBias{}}, 0},
		{"bias, packed, no bias on a prefix", 13, 3, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Seqs: []Span{{0, 6}, {7, 13}}, Bias: &RelativeBias{Unbiased: 2, Offset: 1}}, 0},
		{"bias, cross, capped", 7, 0, AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, SoftCap: 2, KeySeqs: []Span{{0, 9}}, Bias: &RelativeBias{}}, 9},
	} {
		s := c.spec
		s.Scale = 0.6
		kvCols := s.KVHeads * s.HeadDim
		keys := c.rows
		if c.keys > 0 {
			keys = c.keys
		}
		inputs := [][2]int{{c.rows, s.Heads * s.HeadDim}, {keys, kvCols}, {keys, kvCols}}
		if c.past > 0 {
			inputs = append(inputs, [2]int{c.past, kvCols}, [2]int{c.past, kvCols})
		}
		if s.Bias != nil {
			s.Bias.Bucket = func(d int) int { return min(max(d+4, 0), 7) }
			inputs = append(inputs, [2]int{8, s.Heads})
		}
		cases = append(cases, opCase{
			name: "Attention/" + c.name, inputs: inputs,
			run: func(t *Tape, v []*Var) *Var {
				s := s
				if c.past > 0 {
					s.PastK, s.PastV = v[3], v[4]
				}
				if s.Bias != nil {
					bias := *s.Bias
					bias.Table = v[len(v)-1]
					s.Bias = &bias
				}
				return Attention(t, v[0], v[1], v[2], s)
			},
			twin: func(m []mat64) mat64 {
				if c.past == 0 {
					return attention64(m[0], m[1], m[2], s, mat64{}, mat64{}, m[3:]...)
				}
				return attention64(m[0], m[1], m[2], s, m[3], m[4], m[5:]...)
			},
		})
	}
	return cases
}

func layerNormCases() []opCase {
	var cases []opCase
	for _, s := range [][2]int{{1, 5}, {9, 40}, {130, 24}} {
		rows, n := s[0], s[1]
		cases = append(cases, opCase{
			name:   fmt.Sprintf("LayerNorm/%dx%d", rows, n),
			inputs: [][2]int{{rows, n}, {1, n}, {1, n}},
			params: []int{1, 2},
			run: func(t *Tape, v []*Var) *Var {
				return (&NormLayer{W: asParam(v[1]), Bias: asParam(v[2]), Center: true, Eps: 1e-3}).Forward(t, v[0])
			},
			twin: func(m []mat64) mat64 {
				return newMat64(rows, n).each(func(i, j int) float64 {
					mean, sq := 0.0, 0.0
					for k := range n {
						mean += m[0].at(i, k) / float64(n)
					}
					for k := range n {
						sq += (m[0].at(i, k) - mean) * (m[0].at(i, k) - mean) / float64(n)
					}
					return (m[0].at(i, j)-mean)/math.Sqrt(sq+float64(float32(1e-3)))*m[1].at(0, j) + m[2].at(0, j)
				})
			},
		})
	}
	return cases
}

func matrixCases() []opCase {
	var cases []opCase
	for _, f := range []Activation{Sigmoid, Tanh, SiLU, GELU, GELUTanh, ReLU} {
		cases = append(cases, opCase{
			name: "Apply/" + f.Name, inputs: [][2]int{{5, 33}},
			run: func(t *Tape, v []*Var) *Var { return Apply(t, v[0], f) },
			twin: func(m []mat64) mat64 {
				return newMat64(5, 33).each(func(i, j int) float64 { return f.F(m[0].at(i, j)) })
			},
		})
	}
	transposed := func(m mat64) mat64 {
		return newMat64(m.c, m.r).each(func(i, j int) float64 { return m.at(j, i) })
	}
	return append(cases,
		opCase{name: "MatMul", inputs: [][2]int{{7, 5}, {5, 9}},
			run:  func(t *Tape, v []*Var) *Var { return MatMul(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 { return mulT(m[0], transposed(m[1])) }},
		opCase{name: "MatMulT", inputs: [][2]int{{7, 5}, {9, 5}}, params: []int{1},
			run:  func(t *Tape, v []*Var) *Var { return MatMulT(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 { return mulT(m[0], m[1]) }},
		opCase{name: "Mul", inputs: [][2]int{{60, 40}, {60, 40}},
			run: func(t *Tape, v []*Var) *Var { return Mul(t, v[0], v[1]) },
			twin: func(m []mat64) mat64 {
				return newMat64(60, 40).each(func(i, j int) float64 { return m[0].at(i, j) * m[1].at(i, j) })
			}},
		opCase{name: "Mul by itself", inputs: [][2]int{{3, 4}},
			run: func(t *Tape, v []*Var) *Var { return Mul(t, v[0], v[0]) },
			twin: func(m []mat64) mat64 {
				return newMat64(3, 4).each(func(i, j int) float64 { return m[0].at(i, j) * m[0].at(i, j) })
			}},
		opCase{name: "Concat", inputs: [][2]int{{2, 5}, {1, 5}},
			run: func(t *Tape, v []*Var) *Var { return Concat(t, v[0], v[1], v[0]) },
			twin: func(m []mat64) mat64 {
				return newMat64(5, 5).each(func(i, j int) float64 {
					if i == 2 {
						return m[1].at(0, j)
					}
					return m[0].at(i%3, j)
				})
			}},
		opCase{name: "Columns", inputs: [][2]int{{6, 9}},
			run: func(t *Tape, v []*Var) *Var { return Add(t, Columns(t, v[0], 2, 6), Columns(t, v[0], 5, 9)) },
			twin: func(m []mat64) mat64 {
				return newMat64(6, 4).each(func(i, j int) float64 { return m[0].at(i, j+2) + m[0].at(i, j+5) })
			}},
	)
}

func TestActivationNames(t *testing.T) {
	for name, want := range map[string]string{"relu": "relu", "swish": "silu", "silu": "silu", "gelu": "gelu",
		"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "tanh": "tanh", "sigmoid": "sigmoid"} {
		f, ok := ActivationByName(name)
		require.True(t, ok, name)
		require.Equal(t, want, f.Name)
	}
	_, ok := ActivationByName("none such")
	require.False(t, ok)
	// PyTorch's values at 1 (float32, seven digits: off by at most half of the last, 5e-8).
	for _, c := range []struct {
		f    Activation
		want float64
	}{{ReLU, 1}, {Sigmoid, 0.7310586}, {Tanh, 0.7615942}, {SiLU, 0.7310586}, {GELU, 0.8413447}, {GELUTanh, 0.8411920}} {
		require.InDelta(t, c.want, c.f.F(1), 1e-7, c.f.Name)
	}
}

func TestGradients(t *testing.T) {
	groups := [][]opCase{layerNormCases(), matrixCases(), linearCases(), normCases(), elementCases(), gatherCases(), ropeCases(), attentionCases()}
	for _, g := range groups {
		for _, c := range g {
			checkOp(t, c)
		}
	}
}
