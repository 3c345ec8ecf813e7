package generate

import (
	"math"
	"math/rand/v2"
	"slices"
)

// sampler draws tokens.
type sampler struct {
	o    Options
	rng  *rand.Rand
	pick []candidate
}

type candidate struct {
	id int32
	p  float64 // not normalised
}

func newSampler(o Options) *sampler { return &sampler{o: o, rng: rng(o.Seed)} }

// next returns a token for a row of logits, -1 when these are not numbers. The
// order is that of transformers: temperature, top-k, top-p.
func (s *sampler) next(logits []float32) int32 {
	best := argmax(logits)
	if best < 0 || s.o.Temperature == 0 || math.IsInf(float64(logits[best]), 0) {
		return best
	}
	all := s.pick[:0]
	top := float64(logits[best])
	var sum float64
	for i, l := range logits {
		if p := math.Exp((float64(l) - top) / s.o.Temperature); p > 0 {
			all = append(all, candidate{int32(i), p})
			sum += p
		}
	}
	s.pick = all
	if s.o.TopK > 0 && s.o.TopK < len(all) {
		byProbability(all)
		all = all[:s.o.TopK]
		sum = 0
		for _, c := range all {
			sum += c.p
		}
	}
	if s.o.TopP > 0 && s.o.TopP < 1 {
		all, sum = nucleus(all, sum, s.o.TopP)
	}
	at := s.rng.Float64() * sum
	for _, c := range all {
		if at -= c.p; at < 0 {
			return c.id
		}
	}
	return all[len(all)-1].id
}

// nucleus returns the likeliest candidates that together have the share topP of
// sum, and their own sum.
func nucleus(all []candidate, sum, topP float64) ([]candidate, float64) {
	// One that is below the mean of what may be left out is left out: if it were
	// needed, all above it would not reach topP.
	least := (1 - topP) * sum / float64(len(all))
	all = slices.DeleteFunc(all, func(c candidate) bool { return c.p < least })
	byProbability(all)
	var kept float64
	for i, c := range all {
		if kept += c.p; kept >= topP*sum {
			return all[:i+1], kept
		}
	}
	return all, kept
}

// byProbability sorts the likeliest first, equals by id.
func byProbability(c []candidate) {
	slices.SortFunc(c, func(a, b candidate) int {
		switch {
		case a.p > b.p:
			return -1
		case a.p < b.p:
			return 1
		}
		return int(a.id) - int(b.id)
	})
}

// argmax returns the index of the largest element, the first of equals; -1 when
// there is none that is a number.
func argmax(x []float32) int32 {
	best := int32(-1)
	for i, v := range x {
		if !math.IsNaN(float64(v)) && (best < 0 || v > x[best]) {
			best = int32(i)
		}
	}
	return best
}
