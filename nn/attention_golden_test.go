package nn

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// t5Bucket is the bucket function of T5 (Raffel et al. 2020) for 8 buckets up to
// distance 20.
func t5Bucket(decoder bool) func(int) int {
	return func(d int) int {
		n, base := 8, 0
		if decoder {
			d = max(-d, 0)
		} else {
			n = 4
			if d > 0 {
				base = n
			}
			d = max(d, -d)
		}
		half := n / 2
		if d < half {
			return base + d
		}
		far := math.Log(float64(d)/float64(half)) / math.Log(20/float64(half)) * float64(n-half)
		return base + min(half+int(far), n-1)
	}
}

// TestAttentionOfTransformers: the relative bias of T5, with a prefix in
// past_key_values too, and the capped scores of Gemma 2.
//
// Both sides are float32. A value is a dot product of 4, an exponential, a sum of up to
// some ten of them and a dot product with it: sqrt(2)*bound.Spread(25) is 1.7e-6. Gradients
// of queries and keys take the difference of two such numbers, scaled by 2, which cancels
// most of them: 1e-5 is a safety factor of 2 over the 5.2e-6 measured on all tiers alike.
func TestAttentionOfTransformers(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var golden struct {
		T5 []struct {
			Decoder   bool
			Past      int
			Out, Grad []float64
		}
		Gemma2 struct {
			Out   []float64
			QGrad []float64 `json:"q_grad"`
			KGrad []float64 `json:"k_grad"`
		}
	}
	require.NoError(t, json.Unmarshal(raw, &golden))
	tape := NewTape()
	defer tape.Close()
	tape.Train = true
	wave := func(rows, cols int, step float64, needs bool) *Var {
		return &Var{Rows: rows, Cols: cols, Data: sin32(rows*cols, step), Needs: needs}
	}
	run := func(q, k, v *Var, s AttnSpec) *Var {
		tape.Reset()
		y := Attention(tape, q, k, v, s)
		g, _ := tape.Grad(y)
		copy(g.Data, sin32(len(g.Data), 0.41))
		out := append([]float32(nil), y.Data...)
		tape.Backward()
		return &Var{Data: out}
	}
	require.Len(t, golden.T5, 3)
	for _, c := range golden.T5 {
		table := wave(8, 3, 0.77, true)
		s := AttnSpec{Heads: 3, KVHeads: 3, HeadDim: 4, Scale: 1, Causal: c.Decoder,
			Bias: &RelativeBias{Table: table, Bucket: t5Bucket(c.Decoder)}}
		if c.Past > 0 {
			s.PastK, s.PastV = wave(c.Past, 12, 0.53, false), wave(c.Past, 12, 0.91, false)
		}
		y := run(wave(6, 12, 0.37, false), wave(6, 12, 0.37, false), wave(6, 12, 0.37, false), s)
		requireClose(t, c.Out, y.Data, 1, 2e-6, "output")
		requireClose(t, c.Grad, table.Grad, 1, 2e-6, "gradient of the table")
	}
	q, k := wave(6, 8, 0.37, true), wave(6, 4, 0.73, true)
	y := run(q, k, wave(6, 4, 1.31, false), AttnSpec{Heads: 2, KVHeads: 1, HeadDim: 4, Scale: 2, Causal: true, SoftCap: 1.5})
	requireClose(t, golden.Gemma2.Out, y.Data, 1, 2e-6, "output")
	requireClose(t, golden.Gemma2.QGrad, q.Grad, 1, 1e-5, "gradient of the queries")
	requireClose(t, golden.Gemma2.KGrad, k.Grad, 1, 1e-5, "gradient of the keys")
}
