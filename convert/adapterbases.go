package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

const baseLayer = ".base_layer.weight"

// withoutBases makes an adapter one of factors alone, which is all that a GGUF adapter
// holds: the copies of embeddings that PEFT saves beside them are left out where they
// are the base model's own. It refuses factors of tied embeddings: llama.cpp looks up
// those of token_embd for the output too, where their shapes do not fit, and has no
// output.weight to change.
func (c *adapterJob) withoutBases(names *model.Names) error {
	var copies, embeddings []string
	for _, t := range c.a.Tensors {
		path := strings.TrimPrefix(t.Name, peft.Prefix)
		if base, ok := strings.CutSuffix(path, baseLayer); ok {
			copies = append(copies, base)
		}
		for _, end := range []string{".lora_embedding_A", ".lora_A.weight"} {
			if base, ok := strings.CutSuffix(path, end); ok && slices.Contains([]string{"token_embd", "output"}, names.ToGGUF[base]) {
				embeddings = append(embeddings, base)
			}
		}
	}
	if len(copies)+len(embeddings) == 0 {
		return nil
	}
	ck, err := model.Open(c.basePath())
	if err != nil {
		if tied, known := c.saysTied(); known && tied && len(embeddings) > 0 {
			return c.tiedFactors(embeddings[0])
		}
		if len(copies) == 0 {
			return nil // a configuration without weights: nothing to compare with
		}
		return fmt.Errorf("%s: it carries a copy of the base model's %s, which is left out only if it is the same; give the base model with its weights with --base: %w", c.a.Path, copies[0], err)
	}
	defer ck.Close()
	if len(embeddings) > 0 && ck.Tensor(names.ToHF["output"]+".weight") == nil {
		return c.tiedFactors(embeddings[0])
	}
	for _, path := range copies {
		i := slices.IndexFunc(c.a.Tensors, func(t *tensor.Tensor) bool { return t.Name == peft.Prefix+path+baseLayer })
		t, own := c.a.Tensors[i], ck.Tensor(path+".weight")
		if own == nil || !slices.Equal(t.Shape, own.Shape) || !sameFloats(t, own) {
			return fmt.Errorf("%s: its copy of the base model's %s is another (a vocabulary that was resized, say), which a GGUF adapter does not hold; merge it with peftkit merge-lora instead: %w", c.a.Path, path, peft.ErrConfig)
		}
		c.a.Tensors = slices.Delete(slices.Clone(c.a.Tensors), i, i+1)
		c.notes.about("left out: it is the base model's", t.Name)
	}
	return nil
}

func (c *adapterJob) tiedFactors(path string) error {
	return fmt.Errorf("%s: it changes %s, and the base model ties its embeddings, where llama.cpp cannot apply such factors; merge it with peftkit merge-lora instead: %w", c.a.Path, path, peft.ErrConfig)
}

// saysTied is tie_word_embeddings of a base that is a configuration alone.
func (c *adapterJob) saysTied() (tied, known bool) {
	path := c.basePath()
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, "config.json")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return false, false
	}
	o, err := parseObject(b)
	if err != nil {
		return false, false
	}
	v := o.get("tie_word_embeddings")
	return string(v) == "true", v != nil
}

// sameFloats reports whether two tensors of one shape hold the same numbers.
func sameFloats(a, b *tensor.Tensor) bool {
	x, y := make([]float32, a.Cols()), make([]float32, a.Cols())
	for r := range a.Rows() {
		if a.Floats(x, r, r+1) != nil || b.Floats(y, r, r+1) != nil || !slices.Equal(x, y) {
			return false
		}
	}
	return true
}
