package nn

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// With values that are unit vectors the output of attention is its probabilities:
// those that dropout keeps must be those without it, divided by 1-p.
func TestAttentionDropoutMask(t *testing.T) {
	const heads, dim, p = 2, 16, 0.3
	tape := NewTape()
	defer tape.Close()
	for _, rows := range []int{3, 16} { // vectors, and matrix products
		q := &Var{Rows: rows, Cols: heads * dim, Data: sin32(rows*heads*dim, 0.37), Needs: true}
		k := &Var{Rows: rows, Cols: heads * dim, Data: sin32(rows*heads*dim, 0.73), Needs: true}
		v := &Var{Rows: rows, Cols: heads * dim, Data: make([]float32, rows*heads*dim), Needs: true}
		for r := range rows {
			for h := range heads {
				v.Data[(r*heads+h)*dim+r] = 1
			}
		}
		run := func(train, base bool, seed uint64) []float32 {
			tape.Reset()
			tape.Train, tape.BaseDropout, tape.Seed = train, base, seed
			y := Attention(tape, q, k, v, AttnSpec{Heads: heads, KVHeads: heads, HeadDim: dim, Scale: 0.2, Dropout: p})
			return append([]float32(nil), y.Data...)
		}
		whole := run(true, false, 1)
		requireBits(t, whole, run(false, true, 1), "%d rows: nothing is dropped without training", rows)
		requireBits(t, run(true, true, 5), run(true, true, 5), "%d rows: one seed", rows)
		dropped, seen := 0, 0
		columns := map[int]int{}
		for seed := range uint64(200) {
			for i, got := range run(true, true, seed) {
				if i%dim >= rows {
					continue
				}
				seen++
				if got == 0 {
					dropped++
					columns[i]++
					continue
				}
				// The same probability, multiplied by 1/(1-p) once more: 1e-5 is a safety factor
				// of 70 over the 1.4e-7 measured.
				require.InEpsilon(t, float64(whole[i])/(1-p), float64(got), 1e-5)
			}
		}
		// Six standard deviations of a binomial share and count.
		require.InDelta(t, p, float64(dropped)/float64(seen), 6*math.Sqrt(p*(1-p)/float64(seen)), "%d rows", rows)
		for i, n := range columns {
			require.InDelta(t, 200*p, n, 6*math.Sqrt(200*p*(1-p)), "%d rows, element %d", rows, i)
		}
	}
}

// Gradients through the mask, against differences of the loss along a direction.
func TestAttentionDropoutGradient(t *testing.T) {
	for _, c := range []struct {
		name           string
		rows, past     int
		causal         bool
		window         int
		seqs, keySeqs  []Span
		cap            float32
		bias           bool
		heads, kvHeads int
	}{
		{name: "whole sequences", rows: 12, seqs: []Span{{0, 3}, {3, 12}}, heads: 2, kvHeads: 2},
		{name: "causal, grouped, with a past of odd length", rows: 13, past: 3, causal: true, heads: 4, kvHeads: 2},
		{name: "window", rows: 70, causal: true, window: 9, heads: 1, kvHeads: 1},
		{name: "several blocks of keys", rows: 9, past: 1030, causal: true, heads: 1, kvHeads: 1},
		{name: "cross", rows: 10, seqs: []Span{{0, 4}, {4, 10}}, keySeqs: []Span{{0, 7}, {5, 10}}, heads: 2, kvHeads: 2},
		{name: "bias and cap", rows: 11, cap: 2, bias: true, heads: 2, kvHeads: 1},
		{name: "parts of a long sequence", rows: 1100, heads: 1, kvHeads: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			const dim = 4
			var leaves []*Var
			leaf := func(rows, cols int, step float64) *Var {
				v := &Var{Rows: rows, Cols: cols, Data: sin32(rows*cols, step), Needs: true}
				leaves = append(leaves, v)
				return v
			}
			q, k, v := leaf(c.rows, c.heads*dim, 0.37), leaf(c.rows, c.kvHeads*dim, 0.73), leaf(c.rows, c.kvHeads*dim, 1.31)
			s := AttnSpec{Heads: c.heads, KVHeads: c.kvHeads, HeadDim: dim, Scale: 0.4, Causal: c.causal, Window: c.window,
				Seqs: c.seqs, KeySeqs: c.keySeqs, SoftCap: c.cap, Dropout: 0.25}
			if c.past > 0 {
				s.PastK, s.PastV = leaf(c.past, c.kvHeads*dim, 0.91), leaf(c.past, c.kvHeads*dim, 0.53)
			}
			if c.bias {
				s.Bias = &RelativeBias{Table: leaf(4, c.heads, 0.67), Bucket: func(d int) int { return min(max(d+2, 0), 3) }}
			}
			weights := sin32(c.rows*c.heads*dim, 0.29)
			tape := NewTape()
			defer tape.Close()
			tape.mem.poison = true
			run := func() (*Var, float64) {
				tape.Reset()
				tape.Train, tape.BaseDropout, tape.Seed = true, true, 11
				y := Attention(tape, q, k, v, s)
				sum := 0.0
				for i, x := range y.Data {
					sum += float64(x) * float64(weights[i])
				}
				return y, sum
			}
			y, _ := run()
			g, _ := tape.Grad(y)
			copy(g.Data, weights)
			tape.Backward()
			grads := make([][]float32, len(leaves))
			for i, l := range leaves {
				grads[i] = append(grads[i], l.Grad...)
			}
			for i, l := range leaves {
				grad, was := grads[i], append([]float32(nil), l.Data...)
				direction, want := sin32(len(was), 0.83), 0.0
				for j, d := range direction {
					want += float64(d) * float64(grad[j])
				}
				at := func(h float32) float64 {
					for j := range was {
						l.Data[j] = was[j] + h*direction[j]
					}
					_, loss := run()
					copy(l.Data, was)
					return loss
				}
				// Losses of float32 outputs are off by about 1e-6, what is divided by 12*h by
				// 1.5/h of that: 1.5e-4. 2e-3 is a safety factor of 10, and 40 over what is measured.
				const h = 1e-2
				got := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
				require.InDelta(t, want, got, 2e-3*math.Max(1, math.Abs(want)), "input %d", i)
			}
		})
	}
}

func TestBaseDropout(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	for _, recomputable := range []bool{false, true} {
		t.Run(fmt.Sprintf("recomputable %v", recomputable), func(t *testing.T) {
			p := NewParam("p", 40)
			for i := range p.V.Data {
				p.V.Data[i] = float32(i + 1)
			}
			input := func() *Var {
				if recomputable {
					return relay(tape, p.V)
				}
				return Scale(tape, p.V, 1)
			}
			tape.Reset()
			tape.Train, tape.BaseDropout, tape.Seed = true, false, 3
			x := input()
			require.Same(t, x, BaseDropout(tape, x, 0.5), "a tape that does not want it")
			tape.Reset()
			tape.Train, tape.BaseDropout = false, true
			x = input()
			require.Same(t, x, BaseDropout(tape, x, 0.5), "no training")
			require.Same(t, x, BaseDropout(tape, x, 0))

			p.ZeroGrad()
			tape.Reset()
			tape.Train = true
			x = input()
			data := x.Data
			y := BaseDropout(tape, x, 0.5)
			require.Equal(t, !recomputable, &data[0] == &y.Data[0], "memory is taken over where nothing is computed again")
			out := append([]float32(nil), y.Data...)
			z := Add(tape, input(), y)
			g, _ := tape.Grad(z)
			for i := range g.Data {
				g.Data[i] = 1
			}
			tape.Backward()
			dropped := 0
			for i, v := range out {
				if v == 0 {
					dropped++
					require.Equal(t, float32(1), p.V.Grad[i], "the other summand's")
					continue
				}
				require.Equal(t, 2*p.V.Data[i], v)
				require.Equal(t, float32(3), p.V.Grad[i])
			}
			require.InDelta(t, 20, dropped, 15) // 4.7 standard deviations of 40 draws, sqrt(40*0.5*0.5)
			require.NotZero(t, dropped)
		})
	}
}

func TestLayerDrop(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	count := func(train, base bool, p float64) (n int) {
		tape.Reset()
		tape.Train, tape.BaseDropout, tape.Seed = train, base, 9
		for range 4000 {
			if LayerDrop(tape, p) {
				n++
			}
		}
		return n
	}
	require.Zero(t, count(false, true, 0.5))
	require.Zero(t, count(true, false, 0.5))
	require.Zero(t, count(true, true, 0))
	require.Equal(t, 4000, count(true, true, 1))
	require.InDelta(t, 1200, count(true, true, 0.3), 6*29) // six standard deviations, sqrt(4000*0.3*0.7)
}

// A mask does not depend on where a range of elements begins.
func TestDropMaskRanges(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	m := tape.newMask(0.4)
	src := make([]float32, 37)
	for i := range src {
		src[i] = 1
	}
	whole := make([]float32, len(src))
	m.to(whole, src, 0)
	for first := range src {
		part := make([]float32, len(src)-first)
		m.to(part, src[first:], first)
		requireBits(t, whole[first:], part, "from element %d", first)
	}
	require.NotEqual(t, m.row(1), m.row(2))
}
