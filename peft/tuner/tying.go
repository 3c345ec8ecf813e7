package tuner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Tier is a Tuner that computes ensure_weight_tying: it changes the modules that share
// the input embedding's weight in step with the embedding.
type Tier interface {
	// Tied declares the parameters of such a module; embedding is the embedding's site.
	Tied(p *Place, embedding Site) (Site, error)
}

// Follower is a Site whose change of the weight is that of another site, whose weight
// it shares: a merge adds it once.
type Follower interface {
	Follows() bool
}

// Settler is a Tuner with work to do when the numbers of a file were read.
type Settler interface {
	Settle()
}

func (a *Adapter) settle() {
	if s, ok := a.Tuner.(Settler); ok {
		s.Settle()
	}
}

// tying is what ensure_weight_tying asks for in a model whose embeddings are tied.
type tying struct {
	embedding *model.Module
	others    []*model.Module
	// whole says that they are trained in full (modules_to_save), else through
	// target_modules.
	whole bool
}

// tyingOf returns nil where the key has no effect: it is not set, no embedding is
// named (by the names that PEFT looks for, EMBEDDING_LAYER_NAMES), or none is tied.
func tyingOf(cfg *peft.Config, mod *model.Model) (*tying, error) {
	if string(cfg.Raw("ensure_weight_tying")) != "true" {
		return nil, nil
	}
	t := &tying{}
	for _, m := range mod.Modules {
		switch {
		case t.embedding == nil && m.Embedding != nil && m.Weight().Out == mod.VocabSize:
			t.embedding = m
		case t.embedding != nil && m.Norm == nil && m.Weight() == t.embedding.Weight():
			t.others = append(t.others, m)
		}
	}
	if len(t.others) == 0 {
		return nil, nil
	}
	embeddings := []string{"embed_tokens", "lm_head"}
	names := func(path string) bool {
		return slices.Contains(embeddings, path[strings.LastIndexByte(path, '.')+1:])
	}
	if t.whole = slices.ContainsFunc(cfg.ModulesToSave, names); t.whole {
		return t, nil
	}
	if cfg.TargetModules.Regex == "" {
		if slices.ContainsFunc(cfg.TargetModules.List, names) {
			return t, nil
		}
		return nil, nil
	}
	for _, name := range embeddings {
		if hit, err := cfg.TargetModules.Match(name); hit || err != nil {
			return t, err
		}
	}
	return nil, nil
}

// tying is tyingOf for PEFT's LoRA, whose configuration alone has the key.
func (m *Method) tying(cfg *peft.Config, mod *model.Model) (*tying, error) {
	if m.Facts.PeftType != "LORA" {
		return nil, nil
	}
	return tyingOf(cfg, mod)
}

// has reports whether a module is one of the tied.
func (t *tying) has(m *model.Module) bool {
	return t != nil && (m == t.embedding || slices.Contains(t.others, m))
}

// declare trains the weight that is shared, once, and saves it under the names of all.
func (t *tying) declare(a *Adapter) {
	p := t.embedding.Weight().Unfreeze()
	p.Name = peft.Prefix + t.embedding.Path + ".weight"
	a.whole = append(a.whole, a.add(p, true))
	for _, m := range t.others {
		q := &nn.Param{Name: peft.Prefix + m.Path + ".weight", Shape: p.Shape, V: p.V}
		a.saved, a.whole = append(a.saved, q), append(a.whole, q)
	}
}

// sites declares those of the modules that follow the embedding.
func (t *tying) sites(a *Adapter, mod *model.Model) error {
	at := slices.IndexFunc(a.Places, func(p *Place) bool { return p.Mod == t.embedding })
	tier, ok := a.Tuner.(Tier)
	if !ok || at < 0 {
		return Invalid("ensure_weight_tying is true, which method %s does not compute for target_modules", a.facts.Name)
	}
	for _, m := range t.others {
		p := a.Place(m, mod)
		s, err := tier.Tied(p, a.Sites[at])
		if err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
		a.Sites, a.Places = append(a.Sites, s), append(a.Places, p)
	}
	return nil
}
