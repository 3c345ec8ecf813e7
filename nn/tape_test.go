package nn

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
)

func TestArena(t *testing.T) {
	var a arena
	defer a.close()
	x, bx := a.alloc(100)
	y, by := a.alloc(200)
	z, bz := a.alloc(50)
	require.Len(t, x, 100)
	require.Len(t, y, 200)
	require.Len(t, z, 50)
	for i := range y {
		y[i] = 1
	}
	a.release(bx)
	a.release(by) // joins x
	w, bw := a.alloc(300)
	require.Same(t, &x[0], &w[0], "freed neighbours become one block")
	a.release(bz)
	a.release(bw)
	require.Zero(t, a.inUse)
	require.Len(t, a.chunks[0].free, 1)
	require.Equal(t, chunkSize, a.mapped())
	big, bb := a.alloc(chunkSize + 1)
	require.Len(t, big, chunkSize+1)
	big[chunkSize] = 1
	require.Len(t, a.chunks, 2)
	a.release(bb)
	empty, be := a.alloc(0)
	require.NotNil(t, empty)
	a.release(be)
	a.reset()
	require.Zero(t, a.inUse)
}

// TestArenaRandom allocates and frees at random and checks that no two blocks
// overlap.
func TestArenaRandom(t *testing.T) {
	var a arena
	defer a.close()
	type live struct {
		data []float32
		b    block
		mark float32
	}
	var all []live
	seed := uint64(1)
	for i := range 4000 {
		seed = mix(seed)
		if seed%3 != 0 || len(all) == 0 {
			d, b := a.alloc(int(seed>>8%5000) + 1)
			for j := range d {
				d[j] = float32(i)
			}
			all = append(all, live{d, b, float32(i)})
			continue
		}
		k := int(seed >> 8 % uint64(len(all)))
		for _, v := range all[k].data {
			if v != all[k].mark {
				t.Fatal("a block was written by another")
			}
		}
		a.release(all[k].b)
		all[k] = all[len(all)-1]
		all = all[:len(all)-1]
	}
	for _, l := range all {
		a.release(l.b)
	}
	require.Zero(t, a.inUse)
	for _, c := range a.chunks {
		require.Len(t, c.free, 1)
	}
}

func TestDiscard(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	tape.mem.poison = true
	tape.Train = true
	x := &Var{Rows: 2, Cols: 32, Data: sin32(64, 1), Needs: true}
	w := VectorWeight("n", sin32(32, 0.2))

	// Recomputed on demand, with the same bits.
	y := RMSNorm(tape, x, w, 1e-5)
	before := append([]float32(nil), y.Data...)
	z := MulRow(tape, y, NewParam("v", 32).V)
	tape.Discard(y)
	require.Nil(t, y.Data)
	requireBits(t, before, y.Mat().Data, "recomputed")

	// Nobody reads it: gone for good.
	u := Scale(tape, z, 2)
	tape.Discard(u)
	require.PanicsWithValue(t, "nn: the data of this variable is gone: it was discarded and nothing was recorded to read it", func() { u.Mat() })

	// Add took the memory.
	c, d := tape.New(2, 32), tape.New(2, 32)
	e := Add(tape, c, d)
	require.PanicsWithValue(t, "nn: the data of this variable is gone: Add took its memory", func() { d.Mat() })
	require.NotPanics(t, func() { c.Mat(); e.Mat() })

	// Without training, at once.
	tape.Reset()
	tape.Train = false
	y = RMSNorm(tape, x, w, 1e-5)
	use := tape.Memory().InUse
	tape.Discard(y)
	require.Less(t, tape.Memory().InUse, use)
	require.Panics(t, func() { y.Mat() })
	require.Zero(t, tape.Memory().InUse)
	tape.Discard(x)
	require.NotNil(t, x.Data, "a variable of the caller stays")
	tape.Discard(nil)
}

// TestRecordUnnamed: a record that does not list what it reads keeps everything
// that existed then.
func TestRecordUnnamed(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	tape.mem.poison = true
	tape.Train = true
	x := &Var{Rows: 2, Cols: 8, Data: sin32(16, 1), Needs: true}
	y := Scale(tape, x, 3)
	z := tape.New(2, 8)
	z.Needs = true
	for i := range z.Data {
		z.Data[i] = y.Data[i] * y.Data[i]
	}
	tape.Record(z, func() {
		ym := y.Mat()
		g, acc := tape.Grad(y)
		for i := range g.Data {
			d := 2 * ym.Data[i] * z.Grad[i]
			if acc {
				d += g.Data[i]
			}
			g.Data[i] = d
		}
	})
	tape.Discard(y)
	sum := Add(tape, Sum(tape, z, z), y)
	g, _ := tape.Grad(sum)
	for i := range g.Data {
		g.Data[i] = 1
	}
	tape.Backward()
	for i, v := range x.Data {
		require.InDelta(t, 3+2*2*9*v, x.Grad[i], 1e-5) // up to 39, of 5 roundings: bound.Gamma(5)*39 is 1.2e-5
	}
}

func TestDropout(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	const n = 1 << 18
	data := make([]float32, n)
	for i := range data {
		data[i] = 1
	}
	x := &Var{Rows: 512, Cols: n / 512, Data: data, Needs: true}
	require.Same(t, x, Dropout(tape, x, 0.5), "no dropout without training")
	tape.Train = true
	require.Same(t, x, Dropout(tape, x, 0))

	run := func(seed uint64, p float32, skip int) []float32 {
		tape.Reset()
		tape.Seed = seed
		for range skip {
			Dropout(tape, x, 0.5)
		}
		return append([]float32(nil), Dropout(tape, x, p).Data...)
	}
	for _, p := range []float32{0.05, 0.1, 0.5, 0.9, 1} {
		y := run(3, p, 0)
		zeros := 0
		// Neighbours, and elements that share a hash, must be independent.
		var pairs [4]int
		for i, v := range y {
			if v == 0 {
				zeros++
				for d := range pairs {
					if i+d+1 < n && y[i+d+1] == 0 {
						pairs[d]++
					}
				}
			} else {
				require.Equal(t, 1/(1-p), v)
			}
		}
		sigma := math.Sqrt(float64(p*(1-p)) * n)
		// Five standard deviations, and what the 16 bits of a hash round the probability by.
		require.InDelta(t, float64(p)*n, zeros, 5*sigma+n/65536+1, "p=%g", p)
		for d, got := range pairs {
			pp := float64(p) * float64(p)
			require.InDelta(t, pp*n, got, 6*math.Sqrt(pp*(1-pp)*n)+n/16384+4, "p=%g, distance %d", p, d+1)
		}
	}
	first := run(3, 0.3, 0)
	requireBits(t, first, run(3, 0.3, 0), "same seed")
	require.NotEqual(t, first, run(4, 0.3, 0), "other seed")
	require.NotEqual(t, first, run(3, 0.3, 1), "other operation")
	for _, threads := range []int{1, 3} {
		kernels.SetThreads(threads)
		requireBits(t, first, run(3, 0.3, 0), "threads")
	}
	kernels.SetThreads(0)

	// The gradient passes where the value passed, also when it is computed again.
	tape.Reset()
	y := Dropout(tape, x, 0.3)
	v := NewParam("v", x.Cols).V
	for i := range v.Data {
		v.Data[i] = 2
	}
	z := MulRow(tape, y, v)
	tape.Discard(y)
	g, _ := tape.Grad(z)
	for i := range g.Data {
		g.Data[i] = 1
	}
	mask := append([]float32(nil), y.Mat().Data...)
	tape.Backward()
	for i := range mask {
		require.Equal(t, 2*mask[i], x.Grad[i])
	}
}
