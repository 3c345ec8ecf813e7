package lora

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

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
func (c *config) checkTokens() error {
	raw := c.common.Raw("trainable_token_indices")
	if raw == nil {
		return nil
	}
	byName := map[string][]int{}
	var ids peft.Ints
	if err := json.Unmarshal(raw, &ids); err == nil {
		byName[""] = ids
	} else if err := json.Unmarshal(raw, &byName); err != nil {
		return tuner.Invalid("trainable_token_indices is %.60s, expected a list of token numbers, or an object of such lists by module", raw)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if err := tuner.CheckTokens("trainable_token_indices", byName[name]); err != nil {
			return err
		}
		c.tokens = append(c.tokens, tokenGroup{name, byName[name]})
	}
	return nil
}

// declareTokens adds a site for each module with trained tokens.
func (c *config) declareTokens(ad *tuner.Adapter) error {
	if len(c.tokens) == 0 {
		return nil
	}
	mod := ad.Places[0].Model
	type tokenSite struct {
		w   *nn.Weight
		ids []int
		at  string
	}
	var added []tokenSite
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
			case c.common.Saves(m.Path):
				return bad("modules_to_save trains it in full already")
			case slices.ContainsFunc(c.sites, func(s *site) bool { return s.at.Mod.Weight() == w }):
				return bad("it is one of target_modules")
			}
			if i := slices.IndexFunc(added, func(t tokenSite) bool { return t.w == w }); i >= 0 {
				if !slices.Equal(added[i].ids, g.ids) {
					return bad("it shares its weight with %s, and their tokens differ", added[i].at)
				}
				continue
			}
			p := ad.Place(m, mod)
			s, err := p.Tokens("token_adapter.trainable_tokens_delta", g.ids, c.common.Saves)
			if err != nil {
				return fmt.Errorf("trainable_token_indices: %s: %w", m.Path, err)
			}
			added = append(added, tokenSite{w, g.ids, m.Path})
			ad.Sites, ad.Places = append(ad.Sites, s), append(ad.Places, p)
		}
		if !found {
			return fmt.Errorf("trainable_token_indices: no module of this model ends in %q: %w", g.name, peft.ErrNoMatch)
		}
	}
	return nil
}
