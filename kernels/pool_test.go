package kernels

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParallelCoversOnce(t *testing.T) {
	defer SetThreads(0)
	for _, threads := range []int{1, 2, 3, 8} {
		SetThreads(threads)
		for _, n := range []int{0, 1, 7, 64, 1000} {
			for _, grain := range []int{-1, 1, 3, 16, 2000} {
				hits := make([]atomic.Int32, n)
				Parallel(n, grain, func(lo, hi int) {
					if lo%max(grain, 1) != 0 {
						t.Errorf("range begins at %d, not at a multiple of %d", lo, grain)
					}
					for i := lo; i < hi; i++ {
						hits[i].Add(1)
					}
				})
				for i := range hits {
					require.EqualValues(t, 1, hits[i].Load(), "item %d of %d", i, n)
				}
			}
		}
	}
}

func TestParallelNestedAndConcurrent(t *testing.T) {
	SetThreads(4)
	defer SetThreads(0)
	var total atomic.Int64
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 50 {
				Parallel(20, 1, func(lo, hi int) {
					for range hi - lo {
						Parallel(10, 1, func(lo, hi int) { total.Add(int64(hi - lo)) })
					}
				})
			}
		})
	}
	for i := range 20 { // the pool may change under them
		SetThreads(1 + i%5)
	}
	wg.Wait()
	require.EqualValues(t, 6*50*20*10, total.Load())
}

func TestParallelPanics(t *testing.T) {
	SetThreads(4)
	defer SetThreads(0)
	for range 50 {
		require.PanicsWithValue(t, "broken", func() {
			Parallel(64, 1, func(lo, hi int) {
				if lo <= 40 && 40 < hi {
					panic("broken")
				}
			})
		})
		var n atomic.Int64
		Parallel(64, 1, func(lo, hi int) { n.Add(int64(hi - lo)) })
		require.EqualValues(t, 64, n.Load(), "the pool works on after a panic")
	}
}

func TestGemmAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	a, b, c := NewMat(64, 64), NewMat(200, 64), NewMat(64, 200)
	x, y := NewMat(64, 8), NewMat(200, 8)
	run := func() {
		Gemm(c, false, Term{A: a, B: b, TransB: true}, Term{A: x, B: y, TransB: true, Scale: 2})
	}
	run()
	require.Less(t, testing.AllocsPerRun(200, run), 1.0)
}

func BenchmarkParallel(b *testing.B) {
	for b.Loop() {
		Parallel(Threads(), 1, func(lo, hi int) {})
	}
}
