package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
)

// vecOp is a row of the table that all element-wise routines are tested by.
type vecOp struct {
	name string
	in   int   // number of slices
	out  []int // those that are written
	run  func(s [][]float32) []float32
	// exact in float64 for element i, with the magnitude that an error counts
	// against; nil for reductions and for steps that must agree to the bit.
	want func(s [][]float32, i int) (value, magnitude float64)
	// ulps is the allowed error in units of 2^-24 of the magnitude, the number of roundings
	// of the formula, of which the exponential counts for 4 (2 units in the last place) and
	// Phi for 5 (3e-7); a sum may be off by bound.Spread of its terms besides. Without want
	// it is against the Go form; 0 means the same bits.
	ulps float64
	// total gives the exact result and magnitude of a reduction.
	total func(x [][]float32) (value, magnitude float64)
}

func f64(x float32) float64 { return float64(x) }

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// below is the distribution function of the standard normal.
func below(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// gateOfTanh is what x is multiplied by in GELU's tanh approximation.
func gateOfTanh(x float64) float64 {
	return (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) / 2
}

var vecOps = []vecOp{
	{name: "Add", in: 3, out: []int{0}, run: func(s [][]float32) []float32 { Add(s[0], s[1], s[2]); return nil }},
	{name: "Mul", in: 3, out: []int{0}, run: func(s [][]float32) []float32 { Mul(s[0], s[1], s[2]); return nil }},
	{name: "MulAdd", in: 3, out: []int{0}, ulps: 2,
		run: func(s [][]float32) []float32 { MulAdd(s[0], s[1], s[2]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			p := f64(s[1][i]) * f64(s[2][i])
			return f64(s[0][i]) + p, math.Abs(f64(s[0][i])) + math.Abs(p)
		}},
	{name: "Scale", in: 1, out: []int{0}, run: func(s [][]float32) []float32 { Scale(s[0], 1.0000001); return nil }},
	{name: "AdamW", in: 4, out: []int{0, 2, 3}, run: func(s [][]float32) []float32 {
		for i, v := range s[3] { // the second moment is not negative
			s[3][i] = float32(math.Abs(float64(v)))
		}
		AdamW(s[0], s[1], s[2], s[3], 1e-3, 0.9, 0.999, 1e-8, 0.01, 0.271, 0.0029)
		return nil
	}},
	{name: "Axpy", in: 2, out: []int{1}, ulps: 2,
		run: func(s [][]float32) []float32 { Axpy(-0.3, s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			p := f64(float32(-0.3)) * f64(s[0][i])
			return f64(s[1][i]) + p, math.Abs(f64(s[1][i])) + math.Abs(p)
		}},
	{name: "Exp", in: 2, out: []int{0}, ulps: 4,
		run: func(s [][]float32) []float32 { Exp(s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			v := math.Exp(f64(s[1][i]))
			return v, v
		}},
	{name: "Sigmoid", in: 2, out: []int{0}, ulps: 8,
		run: func(s [][]float32) []float32 { Sigmoid(s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			v := logistic(f64(s[1][i]))
			return v, v
		}},
	{name: "GELU", in: 2, out: []int{0}, ulps: 6,
		run: func(s [][]float32) []float32 { GELU(s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			x := f64(s[1][i])
			return x * below(x), math.Abs(x)
		}},
	{name: "GELUSlope", in: 2, out: []int{0}, ulps: 6,
		run: func(s [][]float32) []float32 { GELUSlope(s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			x := f64(s[1][i])
			return below(x) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi), 1
		}},
	{name: "GELUTanh", in: 2, out: []int{0}, ulps: 6,
		run: func(s [][]float32) []float32 { GELUTanh(s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			x := f64(s[1][i])
			return x * gateOfTanh(x), math.Abs(x)
		}},
	{name: "GELUTanhSlope", in: 2, out: []int{0}, ulps: 16,
		run: func(s [][]float32) []float32 { GELUTanhSlope(s[0], s[1]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			x := f64(s[1][i])
			g := gateOfTanh(x)
			return g + x*g*(1-g)*2*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x), 1
		}},
	{name: "ExpSum", in: 1, out: []int{0}, ulps: 4,
		run: func(s [][]float32) []float32 { return []float32{ExpSum(s[0], 0.5)} },
		want: func(s [][]float32, i int) (float64, float64) {
			v := math.Exp(f64(s[0][i] - 0.5))
			return v, v
		}},
	{name: "ExpSum/sum", in: 1, ulps: 20,
		run: func(s [][]float32) []float32 { return []float32{ExpSum(s[0], 0.5)} },
		total: func(s [][]float32) (v, m float64) {
			for _, x := range s[0] {
				v += math.Exp(f64(x - 0.5))
			}
			return v, v
		}},
	{name: "SoftmaxScale", in: 1, out: []int{0}, ulps: 6,
		run: func(s [][]float32) []float32 { SoftmaxScale(s[0], 0.5, 0.25); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			v := 0.25 * math.Exp(f64(s[0][i]-0.5))
			return v, v
		}},
	{name: "SwiGLU", in: 3, out: []int{0}, ulps: 8,
		run: func(s [][]float32) []float32 { SwiGLU(s[0], s[1], s[2]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			v := f64(s[1][i]) * logistic(f64(s[1][i])) * f64(s[2][i])
			return v, math.Abs(v)
		}},
	{name: "SwiGLUBackward/dUp", in: 5, out: []int{0, 1}, ulps: 8,
		run: func(s [][]float32) []float32 { SwiGLUBackward(s[0], s[1], s[2], s[3], s[4]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			g := f64(s[3][i])
			d := f64(s[2][i]) * f64(s[4][i]) * logistic(g) * (1 + g*(1-logistic(g)))
			// 1 + g*(1-s) cancels for negative gates.
			m := math.Abs(f64(s[2][i])*f64(s[4][i])*logistic(g)) * (1 + math.Abs(g))
			return f64(s[0][i]) + d, math.Abs(f64(s[0][i])) + m
		}},
	{name: "Softmax", in: 1, out: []int{0}, ulps: 20,
		run: func(s [][]float32) []float32 { Softmax(s[0]); return nil },
		want: func(s [][]float32, i int) (float64, float64) {
			var sum float64
			for _, v := range s[0] {
				sum += math.Exp(f64(v))
			}
			p := math.Exp(f64(s[0][i])) / sum
			return p, p
		}},
	{name: "Dot", in: 2, ulps: 16,
		run: func(s [][]float32) []float32 { return []float32{Dot(s[0], s[1])} },
		total: func(s [][]float32) (v, m float64) {
			for i := range s[0] {
				p := f64(s[0][i]) * f64(s[1][i])
				v, m = v+p, m+math.Abs(p)
			}
			return v, m
		}},
	{name: "SumSquares", in: 1, ulps: 16,
		run: func(s [][]float32) []float32 { return []float32{SumSquares(s[0])} },
		total: func(s [][]float32) (v, m float64) {
			for _, x := range s[0] {
				v += f64(x) * f64(x)
			}
			return v, v
		}},
	{name: "Max", in: 1,
		run: func(s [][]float32) []float32 { return []float32{Max(s[0])} },
		total: func(s [][]float32) (v, m float64) {
			v = math.Inf(-1)
			for _, x := range s[0] {
				v = max(v, f64(x))
			}
			return v, 0
		}},
	{name: "LogSumExp", in: 1, ulps: 16,
		run: func(s [][]float32) []float32 { return []float32{LogSumExp(s[0])} },
		total: func(s [][]float32) (v, m float64) {
			for _, x := range s[0] {
				v += math.Exp(f64(x))
			}
			v = math.Log(v)
			return v, math.Abs(v) + 1
		}},
}

func (o *vecOp) check(t *testing.T, in, got [][]float32, result []float32) {
	t.Helper()
	if o.total != nil {
		want, mag := o.total(in)
		if d := math.Abs(f64(result[0]) - want); !(d <= (o.ulps*bound.U+bound.Spread(len(in[0])))*mag) && f64(result[0]) != want {
			t.Fatalf("n=%d: got %v, want %v", len(in[0]), result[0], want)
		}
		return
	}
	if o.want == nil {
		ref := clone(in)
		restore, err := Force("generic")
		require.NoError(t, err)
		o.run(ref)
		restore()
		for x := range ref {
			for i := range ref[x] {
				if math.Float32bits(ref[x][i]) != math.Float32bits(got[x][i]) {
					t.Fatalf("n=%d: slice %d element %d is %v, the Go form gives %v", len(in[0]), x, i, got[x][i], ref[x][i])
				}
			}
		}
		return
	}
	for i, v := range got[o.out[0]] {
		want, mag := o.want(in, i)
		if d := math.Abs(f64(v) - want); !(d <= o.ulps*0x1p-24*mag+0x1p-149) {
			t.Fatalf("n=%d: element %d is %v, want %v (%.2f units of the last place)", len(in[0]), i, v, want, d/mag*0x1p24)
		}
	}
}

func clone(s [][]float32) [][]float32 {
	c := make([][]float32, len(s))
	for i := range s {
		c[i] = append([]float32(nil), s[i]...)
	}
	return c
}

// Every length around the vector widths, with the data against a page that
// faults on either side.
func TestVectorLengths(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range vecOps {
			o := &vecOps[i]
			t.Run(o.name, func(t *testing.T) {
				for _, n := range append(seq(0, 70), 127, 128, 129, 200, 1000) {
					if n == 0 && o.name == "LogSumExp" {
						continue
					}
					in := make([][]float32, o.in)
					tails, heads := make([][]float32, o.in), make([][]float32, o.in)
					for x := range in {
						in[x] = randomSlice(r, n)
						tails[x], heads[x] = guarded[float32](t, n)
						copy(tails[x], in[x])
						copy(heads[x], in[x])
					}
					resT, resH := o.run(tails), o.run(heads)
					for x := range tails {
						require.True(t, slices.Equal(tails[x], heads[x]), "n=%d slice %d", n, x)
					}
					require.Equal(t, resT, resH)
					if o.name == "AdamW" {
						for j, v := range in[3] {
							in[3][j] = float32(math.Abs(f64(v)))
						}
					}
					o.check(t, in, tails, resT)
				}
			})
		}
	})
}

func seq(lo, hi int) []int {
	var s []int
	for i := lo; i <= hi; i++ {
		s = append(s, i)
	}
	return s
}

// An element's result must not depend on where the element lies: callers cut
// arrays into ranges as threads happen to be free.
func TestVectorPositions(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for i := range vecOps {
			o := &vecOps[i]
			if o.total != nil || o.name == "Softmax" {
				continue
			}
			in := make([][]float32, o.in)
			for x := range in {
				in[x] = randomSlice(r, 100)
			}
			whole := clone(in)
			o.run(whole)
			for range 200 {
				lo := r.IntN(100)
				hi := lo + 1 + r.IntN(100-lo)
				part := clone(in)
				for x := range part {
					part[x] = part[x][lo:hi]
				}
				o.run(part)
				for x := range part {
					require.Equal(t, whole[x][lo:hi], part[x], "%s [%d:%d]", o.name, lo, hi)
				}
			}
		}
	})
}

// The exponential over its whole range: at most 2 units in the last place (of
// the result's own spacing, subnormal results included).
func TestExpAccuracy(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		const n = 1 << 18
		x, y := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = -105 + 194*float32(i)/n
		}
		Exp(y, x)
		worst := 0.0
		for i, v := range y {
			want := math.Exp(f64(x[i]))
			if want > math.MaxFloat32 {
				require.True(t, math.IsInf(f64(v), 1), "exp(%v) = %v", x[i], v)
				continue
			}
			_, e := math.Frexp(want)
			ulp := math.Ldexp(1, max(e-24, -149))
			worst = max(worst, math.Abs(f64(v)-want)/ulp)
		}
		t.Logf("largest error %.3f units in the last place", worst)
		require.LessOrEqual(t, worst, 2.0)
	})
}

// GELU and its slope where they bend: Phi within 3e-7.
func TestGELUAccuracy(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		const n = 1 << 16
		x, y, d := make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = -12 + 24*float32(i)/n
		}
		GELU(y, x)
		GELUSlope(d, x)
		for i := range x {
			v := f64(x[i])
			require.InDelta(t, v*below(v), y[i], 3e-7*math.Abs(v)+1e-9, "GELU(%v)", v)
			require.InDelta(t, below(v)+v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi), d[i], 4e-7, "the slope at %v", v)
		}
	})
}

func TestSpecialValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	forEachTier(t, func(t *testing.T) {
		for _, n := range []int{1, 5, 8, 16, 33} {
			for at := range n {
				row := func(base, special float32) []float32 {
					x := make([]float32, n)
					for i := range x {
						x[i] = base
					}
					x[at] = special
					return x
				}
				e := make([]float32, n)
				for in, want := range map[float32]float32{-inf: 0, inf: inf, 1000: inf, -1000: 0, 0: 1, -100: float32(math.Exp(-100))} {
					Exp(e, row(0, in))
					require.Equal(t, want, e[at], "exp(%v)", in)
				}
				Exp(e, row(0, nan))
				require.True(t, e[at] != e[at])

				x := row(0, -inf)
				if n > 1 {
					Softmax(x)
					require.Zero(t, x[at])
					// All exponentials are 1 and their sum is exact: a division, a logarithm up to 3.5.
					require.InDelta(t, 1/float64(n-1), x[(at+1)%n], 1e-6)
					require.InDelta(t, math.Log(float64(n-1)), LogSumExp(row(0, -inf)), 1e-6)
				}
				x = row(0, nan)
				require.True(t, LogSumExp(x) != LogSumExp(x))
				Softmax(x)
				for _, v := range x {
					require.True(t, v != v)
				}
				require.Equal(t, inf, LogSumExp(row(0, inf)))
				require.Equal(t, -inf, LogSumExp(row(-inf, -inf)))
				require.Equal(t, inf, Max(row(0, inf)))
				require.InDelta(t, 300+math.Log(float64(n)), LogSumExp(row(300, 300)), 4*bound.U*304) // a logarithm, and 300 added

				out := make([]float32, n)
				SwiGLU(out, row(1, -200), row(1, 1))
				require.Zero(t, out[at]) // -200 * exp(-200) is below the smallest number
				SwiGLU(out, row(1, 200), row(1, 3))
				require.Equal(t, float32(600), out[at])
				// As torch.nn.functional.gelu: -Inf times 0 is no number.
				for in, want := range map[float32]float32{inf: inf, 0: 0, 1e30: 1e30, -1e30: 0} {
					GELU(out, row(1, in))
					require.Equal(t, want, out[at]+0, "GELU(%v)", in)
				}
				for in, want := range map[float32]float32{0: 0.5, 100: 1, -100: 0} {
					GELUSlope(out, row(1, in))
					require.Equal(t, want, out[at]+0, "the slope of GELU at %v", in)
				}
				for in, want := range map[float32]float32{inf: inf, 0: 0, 100: 100, -100: 0} {
					GELUTanh(out, row(1, in))
					require.Equal(t, want, out[at]+0, "GELUTanh(%v)", in)
				}
				for _, in := range []float32{nan, -inf} {
					GELU(out, row(1, in))
					require.True(t, out[at] != out[at])
					GELUTanh(out, row(1, in))
					require.True(t, out[at] != out[at])
				}
				tiny := math.Float32frombits(3)
				Scale(x, 0)
				Add(out, row(0, tiny), row(0, tiny))
				require.Equal(t, uint32(6), math.Float32bits(out[at]), "subnormal numbers are kept")
			}
		}
	})
	require.Equal(t, -inf, LogSumExp(nil))
	Softmax(nil)
}

// Three steps of torch.optim.AdamW (PyTorch 2.15, foreach=False) with lr 0.01,
// weight decay 0.1 and the other constants at their defaults, to the bit:
//
//	p = torch.nn.Parameter(torch.tensor([0.5, -1.25, 3, 0.]))
//	o = torch.optim.AdamW([p], lr=0.01, weight_decay=0.1, foreach=False)
//	for g in grads: p.grad = torch.tensor(g); o.step()
func TestAdamWMatchesTorch(t *testing.T) {
	grads := [][]float32{{0.1, -0.2, 0.3, 1e-5}, {-0.4, 0.25, 2, 0}, {0.05, 0.05, -1, 3}}
	want := []uint32{0x3efeca03, 0xbf9ebc89, 0x403e1010, 0xbcbcc3e1}
	forEachTier(t, func(t *testing.T) {
		p := []float32{0.5, -1.25, 3, 0}
		m, v := make([]float32, 4), make([]float32, 4)
		for i, g := range grads {
			step := float64(i + 1)
			AdamW(p, g, m, v, 0.01, 0.9, 0.999, 1e-8, 0.1, float32(1-math.Pow(0.9, step)), float32(1-math.Pow(0.999, step)))
		}
		q := []float32{0.5, -1.25, 3, 0}
		clear(m)
		clear(v)
		for i, g := range grads {
			step := float64(i + 1)
			AdamWStep{LR: 0.01, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.1,
				Bias1: 1 - math.Pow(0.9, step), Bias2: 1 - math.Pow(0.999, step)}.Apply(q, g, m, v)
		}
		for i := range want {
			require.Equal(t, want[i], math.Float32bits(q[i]), "element %d", i)
			require.InEpsilon(t, math.Float32frombits(want[i]), p[i], 2e-7) // the form with float32 corrections: 3 roundings
		}
	})
}

func BenchmarkVector(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n = 4096
	for _, tier := range Tiers() {
		for i := range vecOps {
			o := &vecOps[i]
			b.Run(fmt.Sprintf("%s/%s", tier, o.name), func(b *testing.B) {
				restore, _ := Force(tier)
				defer restore()
				s := make([][]float32, o.in)
				for x := range s {
					s[x] = randomSlice(r, n)
				}
				for b.Loop() {
					o.run(s)
				}
				b.ReportMetric(n*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "Gelem/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
