package kernels

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels/lanes"
)

// sameBits compares bits, any NaN being equal to any other.
func sameBits(t *testing.T, want, got []float32, msg string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, v := range want {
		if math.Float32bits(v) != math.Float32bits(got[i]) && (v == v || got[i] == got[i]) {
			require.Failf(t, "other bits", msg+": element %d is %v, the assembly gives %v", append(args, i, got[i], v)...)
		}
	}
}

// modelled runs f for each tier of this CPU that has a model; under switches to one by name.
func modelled(t *testing.T, f func(t *testing.T, tier string, under func(name string, run func()))) {
	for _, tier := range Tiers() {
		if !slices.Contains(Models(), tier+"-model") {
			continue
		}
		t.Run(tier, func(t *testing.T) {
			f(t, tier, func(name string, run func()) {
				restore, err := Force(name)
				require.NoError(t, err)
				defer restore()
				require.Equal(t, name, Tier())
				run()
			})
		})
	}
}

// hostile puts numbers of every size and kind among those of x.
func hostile(r *rand.Rand, x []float32) {
	inf := float32(math.Inf(1))
	kinds := []float32{0, float32(math.Copysign(0, -1)), inf, -inf, float32(math.NaN()), math.MaxFloat32, 1e-45, -1e-40, 88.7, -87.4, -103.9, 3e-39}
	for i := range x {
		switch r.IntN(8) {
		case 0:
			x[i] = kinds[r.IntN(len(kinds))]
		case 1:
			x[i] *= float32(math.Ldexp(1, r.IntN(240)-120))
		}
	}
}

// The models give the bits of the assembly, for lengths around the vectors, calls and
// unrolled loops, on usual and on hostile numbers.
func TestModelVectors(t *testing.T) {
	modelled(t, func(t *testing.T, tier string, under func(string, func())) {
		r := rand.New(rand.NewPCG(5, 6))
		lengths := append(seq(0, 70), 127, 128, 129, 1000, 1<<14, 1<<14+1, 1<<14+67, 1<<15+5)
		for i := range vecOps {
			o := &vecOps[i]
			for _, n := range lengths {
				for _, bad := range []bool{false, true} {
					in := make([][]float32, o.in)
					for x := range in {
						in[x] = randomSlice(r, n)
						// What a maximum does with NaN depends on the place: it is not promised.
						if bad && o.name != "Max" && o.name != "Softmax" && o.name != "LogSumExp" {
							hostile(r, in[x])
						}
					}
					want, got := clone(in), clone(in)
					var wantSum, gotSum []float32
					under(tier, func() { wantSum = o.run(want) })
					under(tier+"-model", func() { gotSum = o.run(got) })
					sameBits(t, wantSum, gotSum, "%s of %d", o.name, n)
					for x := range want {
						sameBits(t, want[x], got[x], "%s of %d, slice %d", o.name, n, x)
					}
				}
			}
		}
	})
}

// The same of products: few rows and many, edges, blocks of K, joined terms, accumulated.
func TestModelGemm(t *testing.T) {
	modelled(t, func(t *testing.T, tier string, under func(string, func())) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, sh := range [][3]int{{1, 5, 33}, {4, 70, 700}, {5, 17, 64}, {13, 33, 1300}, {37, 130, 641}, {12, 20, 4200}, {70, 9, 90}} {
			for way := range 8 {
				m, n, k := sh[0], sh[1], sh[2]
				a := Term{TransA: way&1 == 1, TransB: way&2 == 0, Scale: 0.3}
				a.A, a.B = operand(r, m, k, a.TransA), operand(r, k, n, a.TransB)
				terms := []Term{a, {B: operand(r, k, n, true), TransB: true, Scale: -3, Joined: true},
					{A: randomMat(r, m, 7), B: randomMat(r, 7, n), Scale: 2}}
				c := NewMat(m, n)
				copy(c.Data, randomSlice(r, m*n))
				d := NewMat(m, n)
				copy(d.Data, c.Data)
				under(tier, func() { Gemm(c, way&4 != 0, terms...) })
				under(tier+"-model", func() { Gemm(d, way&4 != 0, terms...) })
				sameBits(t, c.Data, d.Data, "%v way %d", sh, way)
			}
		}
	})
}

// A fused multiply-add is rounded once, also where rounding to float64 comes between.
func TestModelFMA(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	number := func() float32 {
		bits := r.Uint32()
		if r.IntN(2) == 0 {
			bits &= 0xffff0fff // products that end half way
		}
		v := math.Float32frombits(bits)
		if v != v || math.IsInf(float64(v), 0) {
			return 1
		}
		return v
	}
	check := func(a, b, c float32) {
		exact := new(big.Float).SetPrec(1200).SetFloat64(float64(a) * float64(b))
		want, _ := exact.Add(exact, big.NewFloat(float64(c))).Float32()
		if want != 0 { // big.Float has its own sign of zero
			require.Equal(t, want, lanes.FMA(a, b, c), "%x*%x%+x", a, b, c)
		} else {
			require.Zero(t, lanes.FMA(a, b, c))
		}
	}
	for range 200_000 {
		a, b := number(), number()
		if math.Abs(float64(a)*float64(b)) < 1e-300 {
			continue
		}
		check(a, b, number())
		// c far above the product or far below: the cases of double rounding.
		p := float32(a * b)
		check(a, b, float32(math.Ldexp(float64(p), r.IntN(120)-60)))
	}
	check(1+0x1p-12, 1+0x1p-12, 0x1p-60) // half way but for the addend
	check(1+0x1p-12, 1+0x1p-12, -0x1p-60)
	check(0x1p-75, 0x1p-75, 0x1p-149) // half way between subnormal numbers
	check(0x1.000002p-75, 0x1p-75, 0)
}

func TestModelNames(t *testing.T) {
	for _, name := range Models() {
		base, ok := strings.CutSuffix(name, "-model")
		require.True(t, ok)
		require.Contains(t, []string{"avx2", "avx512", "neon"}, base)
		require.NotContains(t, Tiers(), name)
	}
}
