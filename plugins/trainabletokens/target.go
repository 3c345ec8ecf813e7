package trainabletokens

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// inputEmbedding chooses the module that looks up the tokens.
func inputEmbedding(c *peft.Config, m *model.Model) error {
	if len(m.Inputs) == 0 {
		return fmt.Errorf("the model has no input embedding: %w", peft.ErrNoFit)
	}
	path, ok := shared(m)
	if !ok {
		if path = m.Inputs[0].Embedding.Path; len(m.Inputs) > 1 {
			return fmt.Errorf("the model looks up the tokens of its two stacks in embeddings of their own: choose one with target_modules, %s or %s: %w", path, m.Inputs[1].Embedding.Path, peft.ErrNoFit)
		}
	}
	c.SetTargets(peft.Targets{List: []string{path}})
	return nil
}

// shared returns the path of the embedding that all stacks of an encoder-decoder
// model look tokens up in. In Hugging Face's models it is a module of its own,
// and PEFT's files name it; here the stacks' modules share its weight.
func shared(m *model.Model) (path string, ok bool) {
	if len(m.Inputs) == 0 {
		return "", false
	}
	first := m.Inputs[0].Embedding
	prefix, ok := strings.CutSuffix(first.Path, "encoder.embed_tokens")
	for _, in := range m.Inputs {
		ok = ok && in.Embedding.W == first.W
	}
	return prefix + "shared", ok
}

// aim turns the shared embedding into a module of the model. To name one stack's
// would in PEFT give each stack rows of its own, which no model of tied embeddings
// can be merged into.
func aim(c *peft.Config, m *model.Model) error {
	path, ok := shared(m)
	if !ok {
		return nil
	}
	hit, err := c.TargetModules.Match(path)
	if err != nil {
		return err
	}
	w := m.Inputs[0].Embedding.W
	if hit {
		c.TargetModules = peft.Targets{List: []string{m.Inputs[0].Embedding.Path}}
		return nil
	}
	for _, mod := range m.Modules {
		if mod.Norm != nil || mod.Weight() != w {
			continue
		}
		if hit, err = c.TargetModules.Match(mod.Path); err != nil {
			return err
		} else if hit {
			return fmt.Errorf("target_modules names %s, one of the modules that share an embedding; name the shared one, %s: %w", mod.Path, path, peft.ErrConfig)
		}
	}
	return nil
}

// stored lists the tensors of the base that hold the shared embedding. The output
// embedding is one of them only where no other is stored: it stays tied.
func stored(p *tuner.Place, s *tuner.Tokens) {
	ck := p.Model.Checkpoint
	if ck == nil {
		return
	}
	add := func(name string) {
		if ck.Tensor(name) != nil && !slices.Contains(p.Tensors, name) {
			p.Tensors = append(p.Tensors, name)
		}
	}
	add(p.Path + ".weight")
	add(p.Mod.Path + ".weight")
	for _, m := range s.Tied {
		if !m.Output {
			add(m.Path + ".weight")
		}
	}
	if len(p.Tensors) == 0 {
		add(p.Mod.Weight().Name)
	}
}
