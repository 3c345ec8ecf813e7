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
		chosen = torchrng.New(seed).RandpermFirst(int64(shape[0]*shape[1]), int64(s.V.V.Cols))
		slices.Sort(chosen)
		s.cfg.chosen[shape] = chosen
	}
	s.Rows, s.Cols = make([]int32, len(chosen)), make([]int32, len(chosen))
	for k, at := range chosen {
		s.Rows[k], s.Cols[k] = int32(at/int64(s.Place.In)), int32(at%int64(s.Place.In))
	}
}
