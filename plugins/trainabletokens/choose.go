package trainabletokens

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// most is how many tokens are chosen at most. A hundred make up about half of an
// ordinary text, special tokens included, and cost no time: a tied output embedding
// computes one more product of this rank.
const most = 100

// StartData implements tuner.Starter: without token_indices it chooses the most
// frequent tokens of the training data, of equally frequent ones the first in the
// vocabulary.
func (c *config) StartData(a *tuner.Adapter, texts iter.Seq[[]int32]) error {
	if len(c.Tokens) > 0 {
		return nil
	}
	if !c.Init {
		return tuner.Invalid("init_weights false draws new embeddings: say of which tokens, with token_indices")
	}
	count := map[int]int{}
	for text := range texts {
		for _, id := range text {
			count[int(id)]++
		}
	}
	if len(count) == 0 {
		return fmt.Errorf("token_indices: the training data has no tokens to choose of: %w", peft.ErrConfig)
	}
	ids := make([]int, 0, len(count))
	for id := range count {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y int) int { return cmp.Or(cmp.Compare(count[y], count[x]), cmp.Compare(x, y)) })
	ids = ids[:min(most, len(ids))]
	slices.Sort(ids)
	for _, s := range a.Sites {
		t, ok := s.(*tuner.Tokens)
		if !ok {
			continue
		}
		if err := t.Choose(ids); err != nil {
			return err
		}
	}
	c.Tokens, c.found = ids, len(count)
	c.common.Set("token_indices", ids)
	return nil
}
