package vblora

import (
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// mixture is a list of vectors, each a mixture of the bank's: row i of logits, of
// num_vectors numbers, chooses topk of them and weighs them by softmax.
type mixture struct {
	cfg    *config
	logits *nn.Param
	short  *short // as it was read, if the file held no logits
}

// choice returns the places of the topk largest logits of each row, the largest
// first, the first of equal ones first.
func (m *mixture) choice() []int32 {
	k, n := m.cfg.TopK, m.cfg.Vectors
	out := make([]int32, 0, m.logits.V.Rows*k)
	for r := range m.logits.V.Rows {
		row := m.logits.V.Data[r*n : (r+1)*n]
		at := len(out)
		for i, v := range row {
			j := len(out)
			for j > at && row[out[j-1]] < v {
				j--
			}
			if j-at >= k {
				continue
			}
			if len(out)-at < k {
				out = append(out, 0)
			}
			copy(out[j+1:], out[j:len(out)-1])
			out[j] = int32(i)
		}
	}
	return out
}

// mix returns the chosen vectors of each row and their weights, [rows, topk].
func (m *mixture) mix(t *nn.Tape) (chosen []int32, weights *nn.Var) {
	k, rows := m.cfg.TopK, m.logits.V.Rows
	if m.short != nil {
		return m.short.places, tuner.Constant(m.short.whole(k), rows, k)
	}
	chosen = m.choice()
	places := make([]int32, len(chosen))
	for i, c := range chosen {
		places[i] = int32(i/k*m.cfg.Vectors) + c
	}
	return chosen, nn.SoftmaxRows(t, nn.Gather(t, m.logits.V, places, rows, k))
}

// vectors returns the mixtures, [rows, vector_length].
func (m *mixture) vectors(t *nn.Tape) *nn.Var {
	k, rows := m.cfg.TopK, m.logits.V.Rows
	chosen, weights := m.mix(t)
	var sum *nn.Var
	nth := make([]int32, rows)
	for j := range k {
		for r := range nth {
			nth[r] = chosen[r*k+j]
		}
		part := nn.MulCol(t, nn.GatherRows(t, m.cfg.bank.V, append([]int32(nil), nth...)), nn.Columns(t, weights, j, j+1))
		if sum == nil {
			sum = part
		} else {
			sum = nn.Sum(t, sum, part)
		}
	}
	return sum
}

// site adds B·A.
type site struct {
	cfg   *config
	layer *nn.LinearLayer
	a, b  *mixture

	merged tuner.Fixed // the factors
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	tuner.Normal(s.a.logits.V.Data, s.cfg.Std, rng.NormFloat64)
	tuner.Normal(s.b.logits.V.Data, s.cfg.Std, rng.NormFloat64)
	return nil
}

// factors returns A, [r, in], and B, [out, r].
func (s *site) factors(t *nn.Tape) (a, b *nn.Var) {
	a, b = s.a.vectors(t), s.b.vectors(t)
	tiles := b.Rows / s.cfg.R
	return nn.View(t, a, s.cfg.R, a.Rows/s.cfg.R*a.Cols), nn.TransposeEach(t, b, tiles)
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		a, b := s.factors(t)
		return nn.LowRank{X: nn.Dropout(t, x, float32(s.cfg.Dropout)), A: a, B: b, Scale: scale}
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	f := s.merged.Of(func(t *nn.Tape) []*nn.Var {
		a, b := s.factors(t)
		return []*nn.Var{a, b}
	})
	tuner.AddProduct(w, f[1].Mat().RowsOf(r0, r1), f[0].Mat(), scale)
}
