package tuner

import (
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// file is an adapter file on its way into a model.
type file struct {
	a   *formats.Adapter
	cfg *peft.Config
	set *peft.TensorSet
	// bases replace weights of the base model; replaced lists the saved names of
	// whole tensors that changes were made of.
	bases    []peft.Change
	replaced map[string]bool
	kept     []formats.OutTensor // what bases were made of, to be saved again
}

func open(a *formats.Adapter) (*file, error) {
	cfg, err := peft.ParseConfig(a.Config)
	if err != nil {
		return nil, formats.At(a.Path, err)
	}
	set, err := peft.NewTensorSet(a)
	if err != nil {
		return nil, err
	}
	return &file{a: a, cfg: cfg, set: set, replaced: map[string]bool{}}, nil
}

// wholes takes the tensors of the file that replace one of the base model's, but
// for those that a site has.
func (f *file) wholes(c *model.Checkpoint, ad *Adapter) []peft.Change {
	own := map[string]bool{}
	for _, p := range ad.saved[:len(ad.saved)-len(ad.whole)] {
		own[p.Name] = true
	}
	var out []peft.Change
	for _, name := range f.set.Rest() {
		target := strings.TrimPrefix(strings.Replace(name, ".base_layer.", ".", 1), peft.Prefix)
		if own[name] || c.Shape(target) == nil && !strings.HasSuffix(target, "lm_head.weight") {
			continue
		}
		out = append(out, replaceBy(target, f.set.Take(name)))
		f.replaced[name] = true
	}
	return out
}

func replaceBy(target string, t *tensor.Tensor) peft.Change {
	return peft.Change{Tensor: target, Shape: t.Shape, Replace: t.Floats}
}
