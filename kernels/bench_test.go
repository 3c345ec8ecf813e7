package kernels

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"
	"time"
)

// gemmBenchShapes are the products of training SmolLM2-135M on 1024 tokens.
var gemmBenchShapes = []struct{ m, k, n int }{
	{1024, 576, 576}, {1024, 576, 1536}, {1024, 1536, 576}, {1024, 2048, 2048}, {1024, 576, 49152},
}

// peakLoop runs the micro-kernel alone on all threads, with panels in the L1
// cache, and returns the flops it did: the rate that products are measured against.
func peakLoop() float64 {
	lv := active
	mr, nr := tileSize(lv)
	const k, rounds = 128, 4000
	Parallel(Threads(), 1, func(lo, hi int) {
		pa, pb, c := make([]float32, mr*k), make([]float32, nr*k), make([]float32, mr*nr)
		for range (hi - lo) * rounds {
			micro(lv, mr, nr, k, pa, pb, c, nr, false)
		}
	})
	return 2 * float64(mr*nr*k*rounds*Threads())
}

func BenchmarkPeak(b *testing.B) {
	for _, tier := range Tiers() {
		b.Run(tier, func(b *testing.B) {
			restore, _ := Force(tier)
			defer restore()
			var flops float64
			for b.Loop() {
				flops = peakLoop()
			}
			rate(b, flops)
		})
	}
}

func rate(b *testing.B, flops float64) {
	b.ReportMetric(flops*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
	b.ReportMetric(0, "ns/op")
}

// ofPeak runs f and the peak loop in turn and reports the median rate of f and
// the median of its ratios to the peak measured beside it.
func ofPeak(b *testing.B, flops float64, f func()) {
	SetThreads(0) // follow -cpu
	var rates, ratios []float64
	f()
	for b.Loop() {
		t0 := time.Now()
		f()
		t1 := time.Now()
		pf := peakLoop()
		t2 := time.Now()
		r := flops / float64(t1.Sub(t0).Nanoseconds())
		rates = append(rates, r)
		ratios = append(ratios, 100*r/(pf/float64(t2.Sub(t1).Nanoseconds())))
	}
	sort.Float64s(rates)
	sort.Float64s(ratios)
	b.ReportMetric(rates[len(rates)/2], "GFLOP/s")
	b.ReportMetric(ratios[len(ratios)/2], "%peak")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkGemm(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range gemmBenchShapes {
		a, w := MatOf(randomSlice(r, s.m*s.k), s.m, s.k), MatOf(randomSlice(r, s.n*s.k), s.n, s.k)
		c := NewMat(s.m, s.n)
		flops := 2 * float64(s.m) * float64(s.k) * float64(s.n)
		for _, tier := range Tiers() {
			if tier == "generic" {
				continue
			}
			b.Run(fmt.Sprintf("%s/forward/%dx%dx%d", tier, s.m, s.k, s.n), func(b *testing.B) {
				restore, _ := Force(tier)
				defer restore()
				ofPeak(b, flops, func() { Gemm(c, false, Term{A: a, B: w, TransB: true}) })
			})
			// The gradient of the input: dX = dY * W.
			b.Run(fmt.Sprintf("%s/backward/%dx%dx%d", tier, s.m, s.n, s.k), func(b *testing.B) {
				restore, _ := Force(tier)
				defer restore()
				ofPeak(b, flops, func() { Gemm(a, false, Term{A: c, B: w}) })
			})
		}
	}
}

// BenchmarkGemmLoRA measures the narrow products of a low-rank update of rank r
// on [576,1536].
func BenchmarkGemmLoRA(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const m, in, out = 1024, 576, 1536
	x, dy, w := MatOf(randomSlice(r, m*in), m, in), MatOf(randomSlice(r, m*out), m, out), MatOf(randomSlice(r, in*out), out, in)
	for _, rank := range []int{8, 16, 64} {
		la, lb := MatOf(randomSlice(r, rank*in), rank, in), MatOf(randomSlice(r, out*rank), out, rank)
		z, da, db, y := NewMat(m, rank), NewMat(rank, in), NewMat(out, rank), NewMat(m, out)
		for _, c := range []struct {
			name  string
			flops int
			f     func()
		}{
			{"Z=XA", m * in * rank, func() { Gemm(z, false, Term{A: x, B: la, TransB: true}) }},
			{"dZ=dYB", m * out * rank, func() { Gemm(z, false, Term{A: dy, B: lb}) }},
			{"dA=dZtX", m * in * rank, func() { Gemm(da, false, Term{A: z, TransA: true, B: x}) }},
			{"dB=dYtZ", m * out * rank, func() { Gemm(db, false, Term{A: dy, TransA: true, B: z}) }},
			{"Y=XW+ZB", m * (in + rank) * out, func() {
				Gemm(y, false, Term{A: x, B: w, TransB: true}, Term{A: z, B: lb, TransB: true, Scale: 2})
			}},
		} {
			b.Run(fmt.Sprintf("r=%d/%s", rank, c.name), func(b *testing.B) {
				for b.Loop() {
					c.f()
				}
				rate(b, 2*float64(c.flops))
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/op")
			})
		}
	}
}

// BenchmarkGemmStored measures the forward product with a weight decoded on the way.
func BenchmarkGemmStored(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, m := range []int{1, 64, 1024} {
		const k, n = 576, 1536
		a, c := MatOf(randomSlice(r, m*k), m, k), NewMat(m, n)
		for _, st := range storages {
			if st.permuted || st.name == "Block256" {
				continue
			}
			w, _ := st.randomWeight(r, n, k)
			b.Run(fmt.Sprintf("m=%d/%s", m, st.name), func(b *testing.B) {
				for b.Loop() {
					Gemm(c, false, Term{A: a, W: w, TransB: true})
				}
				rate(b, 2*float64(m)*k*n)
			})
		}
	}
}
