package shira

import (
	"slices"

	"github.com/peftkit/peftkit/internal/torchrng"
)

// defaultSeed is that of a torch.Generator which nobody seeded.
const defaultSeed = 67280421310721

// draw chooses the elements as PEFT's random_mask does: the first ones of a
// random permutation of all, in ascending order.
func (s *site) draw() {
	shape := [2]int{s.Place.Out, s.Place.In}
	chosen := s.cfg.chosen[shape]
	if chosen == nil {
		seed := uint64(defaultSeed)
		if s.cfg.Seed != nil {
			seed = *s.cfg.Seed
		}
		chosen = firstOf(torchrng.New(seed), shape[0]*shape[1], s.V.V.Cols)
		slices.Sort(chosen)
		s.cfg.chosen[shape] = chosen
	}
	s.Rows, s.Cols = make([]int32, len(chosen)), make([]int32, len(chosen))
	for k, at := range chosen {
		s.Rows[k], s.Cols[k] = int32(at/int64(s.Place.In)), int32(at%int64(s.Place.In))
	}
}

// firstOf returns the first k elements of torch.randperm(n). PyTorch shuffles
// forward while n is small enough for that, so that they are known after k swaps.
func firstOf(g *torchrng.Generator, n, k int) []int64 {
	if n >= (1<<32-1)/20 {
		return g.Randperm(int64(n))[:k]
	}
	moved := map[int64]int64{}
	at := func(i int64) int64 {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	out := make([]int64, k)
	for i := range int64(k) {
		j := i
		if i < int64(n)-1 {
			j += int64(uint64(g.Uint32()) % uint64(int64(n)-i))
		}
		out[i] = at(j)
		moved[j] = at(i)
	}
	return out
}
