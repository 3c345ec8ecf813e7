package lora

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// tokenGroup is an entry of trainable_token_indices: the tokens of one module
// whose rows are trained. name "" is the input embedding.
type tokenGroup struct {
	name string
	ids  []int
}

// checkTokens reads trainable_token_indices: a list for the input embedding, or
// an object of lists by the ends of module names.
func (c *config) checkTokens(bad func(string, ...any) error) error {
	raw := c.common.Raw("trainable_token_indices")
	if raw == nil {
		return nil
	}
	byName := map[string][]int{}
	var ids peft.Ints
	if err := json.Unmarshal(raw, &ids); err == nil {
		byName[""] = ids
	} else if err := json.Unmarshal(raw, &byName); err != nil {
		return bad("trainable_token_indices is %.60s, expected a list of token numbers, or an object of such lists by module", raw)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		g := tokenGroup{name, byName[name]}
		seen := map[int]bool{}
		for _, id := range g.ids {
			if id < 0 || seen[id] {
				return bad("trainable_token_indices: token %d is negative or stands twice", id)
			}
			seen[id] = true
		}
		if len(g.ids) == 0 {
			return bad("trainable_token_indices: no tokens")
		}
		c.tokens = append(c.tokens, g)
	}
	return nil
}

// declareTokens adds a site for each module with trained tokens.
func (c *config) declareTokens(ad *tuner.Adapter) error {
	if len(c.tokens) == 0 {
		return nil
	}
	mod := ad.Places[0].Model
	var added []*tokenSite
	for _, g := range c.tokens {
		found := false
		for _, m := range mod.Modules {
			w := m.Weight()
			input := m.Embedding != nil && w.Out == mod.VocabSize
			if g.name == "" && (!input || found) || g.name != "" && !strings.HasSuffix(m.Path, g.name) {
				continue
			}
			found = true
			bad := func(format string, args ...any) error {
				return fmt.Errorf("trainable_token_indices: %s: %s: %w", m.Path, fmt.Sprintf(format, args...), peft.ErrConfig)
			}
			switch {
			case m.Norm != nil || m.Bias() != nil || w.Transposed || w.Conv1D:
				return bad("it is no embedding, nor an output embedding without bias")
			case c.common.Saves(m.Path):
				return bad("modules_to_save trains it in full already")
			case slices.ContainsFunc(c.sites, func(s *site) bool { return s.at.Mod.Weight() == w }):
				return bad("it is one of target_modules")
			case slices.Max(g.ids) >= w.Out:
				return bad("token %d of %d", slices.Max(g.ids), w.Out)
			}
			if i := slices.IndexFunc(added, func(t *tokenSite) bool { return t.at.Mod.Weight() == w }); i >= 0 {
				if !slices.Equal(added[i].ids, g.ids) {
					return bad("it shares its weight with %s, and their tokens differ", added[i].at.Path)
				}
				continue
			}
			p := ad.Place(m, mod)
			s := &tokenSite{at: p, ids: g.ids, delta: p.Param("token_adapter.trainable_tokens_delta", len(g.ids), p.In)}
			for _, o := range mod.Modules {
				if o != m && o.Norm == nil && o.Weight() == w && !c.common.Saves(o.Path) {
					s.tied = append(s.tied, o)
				}
			}
			added = append(added, s)
			ad.Sites, ad.Places = append(ad.Sites, s), append(ad.Places, p)
		}
		if !found {
			return fmt.Errorf("trainable_token_indices: no module of this model ends in %q: %w", g.name, peft.ErrNoMatch)
		}
	}
	return nil
}

// tokenSite trains some rows of an embedding, which replace the base's, there and
// in the modules that share its weight.
type tokenSite struct {
	at    *tuner.Place
	ids   []int
	delta *nn.Param // the rows themselves, as in PEFT
	tied  []*model.Module
}

// rows returns the base's rows.
func (s *tokenSite) rows() *nn.Var {
	v := &nn.Var{Rows: len(s.ids), Cols: s.at.In, Data: make([]float32, len(s.ids)*s.at.In)}
	for i, id := range s.ids {
		s.at.Mod.Weight().Row(v.Mat().Row(i), id)
	}
	return v
}

// Init implements tuner.Site.
func (s *tokenSite) Init(*rand.Rand) error {
	copy(s.delta.V.Data, s.rows().Data)
	return nil
}

// Attach implements tuner.Site.
func (s *tokenSite) Attach(scale float32) error {
	base := s.rows()
	for _, m := range append([]*model.Module{s.at.Mod}, s.tied...) {
		if m.Embedding != nil {
			m.Embedding.Wrap(s.lookup(base, scale))
			continue
		}
		// x·Wᵀ of these tokens becomes x·deltaᵀ.
		hot := &nn.Var{Rows: s.at.Out, Cols: len(s.ids), Data: make([]float32, s.at.Out*len(s.ids))}
		for k, id := range s.ids {
			hot.Data[id*hot.Cols+k] = 1
		}
		m.Linear.AddLowRank(func(t *nn.Tape, _ *nn.Var) nn.LowRank {
			return nn.LowRank{A: nn.Minus(t, s.delta.V, base), B: hot, Scale: scale}
		})
	}
	return nil
}

// lookup puts the trained rows in the place of the base's.
func (s *tokenSite) lookup(base *nn.Var, scale float32) func(*nn.Tape, []int32, func(*nn.Tape, []int32) *nn.Var) *nn.Var {
	number := map[int32]int{}
	for k, id := range s.ids {
		number[int32(id)] = k
	}
	return func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		y := next(t, ids)
		from, hit := make([]int32, len(ids)), false
		for i, id := range ids {
			from[i] = int32(i)
			if k, ok := number[id]; ok {
				from[i], hit = int32(len(ids)+k), true
			}
		}
		if !hit {
			return y
		}
		rows := s.delta.V
		if scale != 1 {
			rows = nn.Sum(t, nn.Scale(t, rows, scale), nn.Scale(t, base, 1-scale))
		}
		all := nn.Concat(t, y, rows)
		t.Discard(y)
		out := nn.GatherRows(t, all, from)
		t.Discard(all)
		return out
	}
}

// MergeRows implements tuner.RowMerging.
func (s *tokenSite) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	for k, id := range s.ids {
		if id < r0 || id >= r1 {
			continue
		}
		row, want := w.Row(id-r0), s.delta.V.Mat().Row(k)
		if scale == 1 {
			copy(row, want)
			continue
		}
		for i := range row {
			row[i] += scale * (want[i] - row[i])
		}
	}
}

// MergesTied implements tuner.TiedMerging.
func (s *tokenSite) MergesTied() bool { return len(s.tied) > 0 }
