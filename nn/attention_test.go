package nn

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
)

// TestAttentionBlocks covers several blocks of queries and of keys; the
// gradients there are checked against the sums of the definition.
func TestAttentionBlocks(t *testing.T) {
	defer kernels.SetThreads(0)
	for _, c := range []struct {
		rows, past, window int
		causal             bool
		heads, kv, dim     int
		seqs               []Span
		keySeqs            []Span
		softCap            float32
		bias               bool
	}{
		{200, 0, 0, true, 3, 1, 8, []Span{{0, 67}, {67, 130}, {130, 200}}, nil, 0, false},
		{1100, 0, 0, true, 2, 1, 4, nil, nil, 0, false},
		{70, 1030, 0, true, 2, 2, 4, nil, nil, 0, false},
		{1100, 0, 100, true, 1, 1, 4, nil, nil, 0, false},
		{130, 0, 0, false, 2, 1, 4, nil, nil, 0, false},
		{1100, 0, 0, false, 1, 1, 2, nil, nil, 0, false},
		{1100, 5, 0, true, 1, 1, 2, []Span{{3, 1040}, {1040, 1100}}, nil, 0, false},
		{1100, 5, 0, true, 2, 1, 2, []Span{{3, 1040}, {1040, 1100}}, nil, 2, true},
		{130, 3, 0, false, 2, 1, 4, nil, nil, 0, true},
		{1100, 0, 0, false, 2, 1, 2, []Span{{0, 1090}, {1090, 1100}}, []Span{{0, 7}, {5, 1100}}, 3, true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			s := AttnSpec{Heads: c.heads, KVHeads: c.kv, HeadDim: c.dim, Scale: 0.4, Causal: c.causal, Window: c.window, Seqs: c.seqs, KeySeqs: c.keySeqs, SoftCap: c.softCap}
			var q, k, v, pk, pv mat64
			mk := func(rows, cols int, step float64) (*Var, mat64) {
				d := sin32(rows*cols, step)
				m := newMat64(rows, cols)
				for i, x := range d {
					m.d[i] = float64(x)
				}
				return &Var{Rows: rows, Cols: cols, Data: d, Needs: true}, m
			}
			qv, q := mk(c.rows, c.heads*c.dim, 0.37)
			kvar, k := mk(c.rows, c.kv*c.dim, 0.73)
			vv, v := mk(c.rows, c.kv*c.dim, 1.31)
			leaves := []*Var{qv, kvar, vv}
			if c.past > 0 {
				s.PastK, pk = mk(c.past, c.kv*c.dim, 0.91)
				s.PastV, pv = mk(c.past, c.kv*c.dim, 0.53)
				leaves = append(leaves, s.PastK, s.PastV)
			}
			var bias []mat64
			if c.bias {
				table, b := mk(8, c.heads, 0.67)
				bias = append(bias, b)
				s.Bias = &RelativeBias{Table: table, Bucket: func(d int) int { return min(max(d/50+4, 0), 7) }}
				leaves = append(leaves, table)
			}
			weights := sin32(c.rows*c.heads*c.dim, 0.29)
			want := attention64(q, k, v, s, pk, pv, bias...)

			tape := NewTape()
			defer tape.Close()
			tape.mem.poison = true
			var first [][]float32
			for _, threads := range []int{1, 2, 3, 8} {
				kernels.SetThreads(threads)
				tape.Reset()
				tape.Train = true
				out := Attention(tape, qv, kvar, vv, s)
				// bound.Spread of up to 1100 keys, which attention to many of them sums, is 8e-6.
				requireClose(t, want.d, out.Data, 1, 1e-5, "output")
				g, _ := tape.Grad(out)
				copy(g.Data, weights)
				tape.Backward()
				var got [][]float32
				for _, l := range leaves {
					got = append(got, append([]float32(nil), l.Grad...))
				}
				if first == nil {
					first = got
				}
				for i := range got {
					requireBits(t, first[i], got[i], "gradient %d on %d threads", i, threads)
				}
			}
			if raceEnabled || testing.Short() {
				return
			}
			// A few differences of the definition. A gradient is a sum over up to 1100 rows of
			// what such sums gave: 2*bound.Spread(1100) is 1.6e-5, and as much again is left
			// for the exponential and for what a softmax cancels.
			mats := []mat64{q, k, v}
			if c.past > 0 {
				mats = append(mats, pk, pv)
			}
			mats = append(mats, bias...)
			loss := func() (sum float64) {
				for i, o := range attention64(q, k, v, s, pk, pv, bias...).d {
					sum += o * float64(weights[i])
				}
				return sum
			}
			for i := range leaves {
				scale := 1e-3
				for _, g := range first[i] {
					scale = max(scale, float64(max(g, -g)))
				}
				for _, j := range []int{0, len(first[i]) / 3, len(first[i]) - 1} {
					const h = 1e-5
					old := mats[i].d[j]
					mats[i].d[j] = old + h
					up := loss()
					mats[i].d[j] = old - h
					down := loss()
					mats[i].d[j] = old
					require.InDelta(t, (up-down)/(2*h), float64(first[i][j]), 3e-5*scale, "gradient %d element %d", i, j)
				}
			}
		})
	}
}

// TestAttentionCache: a sequence fed token by token with its past gives what the
// whole sequence gives.
func TestAttentionCache(t *testing.T) {
	const n, heads, kv, dim = 23, 4, 2, 8
	s := AttnSpec{Heads: heads, KVHeads: kv, HeadDim: dim, Scale: 0.5, Causal: true}
	q := &Var{Rows: n, Cols: heads * dim, Data: sin32(n*heads*dim, 0.37)}
	k := &Var{Rows: n, Cols: kv * dim, Data: sin32(n*kv*dim, 0.73)}
	v := &Var{Rows: n, Cols: kv * dim, Data: sin32(n*kv*dim, 1.31)}
	tape := NewTape()
	defer tape.Close()
	want := append([]float32(nil), Attention(tape, q, k, v, s).Data...)
	part := func(v *Var, lo, hi int) *Var {
		return &Var{Rows: hi - lo, Cols: v.Cols, Data: v.Data[lo*v.Cols : hi*v.Cols]}
	}
	for _, step := range []int{1, 3, 7} {
		var got []float32
		for lo := 0; lo < n; lo += step {
			hi := min(lo+step, n)
			tape.Reset()
			s.PastK, s.PastV = nil, nil
			if lo > 0 {
				s.PastK, s.PastV = part(k, 0, lo), part(v, 0, lo)
			}
			got = append(got, Attention(tape, part(q, lo, hi), part(k, lo, hi), part(v, lo, hi), s).Data...)
		}
		require.Len(t, got, len(want))
		for i := range want {
			// A dot product of 8 and a sum of 23: bound.Spread(31) is 1.3e-6 of outputs below 1.
			require.InDelta(t, want[i], got[i], 1e-6)
		}
	}
}

func TestAttentionRefuses(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	q, k := tape.New(4, 8), tape.New(4, 4)
	v := tape.New(4, 4)
	good := AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Scale: 1, Causal: true}
	require.NotPanics(t, func() { Attention(tape, q, k, v, good) })
	for name, f := range map[string]func(s *AttnSpec){
		"heads":        func(s *AttnSpec) { s.KVHeads = 3 },
		"size":         func(s *AttnSpec) { s.HeadDim = 8 },
		"overlap":      func(s *AttnSpec) { s.Seqs = []Span{{0, 3}, {2, 4}} },
		"outside":      func(s *AttnSpec) { s.Seqs = []Span{{0, 5}} },
		"half past":    func(s *AttnSpec) { s.PastK = k },
		"both":         func(s *AttnSpec) { s.Causal, s.Window = false, 3 },
		"past sizes":   func(s *AttnSpec) { s.PastK, s.PastV = q, q },
		"causal cross": func(s *AttnSpec) { s.KeySeqs = []Span{{0, 4}} },
		"key spans":    func(s *AttnSpec) { s.Causal, s.KeySeqs = false, []Span{{0, 2}, {2, 4}} },
		"keys outside": func(s *AttnSpec) { s.Causal, s.KeySeqs = false, []Span{{0, 5}} },
		"bias heads":   func(s *AttnSpec) { s.Bias = &RelativeBias{Table: k, Bucket: func(int) int { return 0 }} },
		"bucket": func(s *AttnSpec) {
			s.Bias = &RelativeBias{Table: &Var{Rows: 2, Cols: 2, Data: make([]float32, 4)}, Bucket: func(int) int { return 2 }}
		},
	} {
		s := good
		f(&s)
		require.Panics(t, func() { Attention(tape, q, k, v, s) }, name)
	}
}
