package decoder

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
)

// WithPrefix returns an opened Hugging Face model whose tensors have the prefix of
// the class with a head: checkpoints of the bare model, and the first ones of
// GPT-2, lack it. Modules of the heads never have it.
func WithPrefix(m *formats.Model, prefix string, heads ...string) *formats.Model {
	if m.Naming != formats.HF {
		return m
	}
	for _, t := range m.Tensors {
		if strings.HasPrefix(t.Name, prefix) {
			return m
		}
	}
	named := *m
	named.Tensors = nil
	for _, t := range m.Tensors {
		u := *t
		if !isHead(t.Name, heads) {
			u.Name = prefix + t.Name
		}
		named.Tensors = append(named.Tensors, &u)
	}
	return &named
}

func isHead(name string, heads []string) bool {
	for _, h := range heads {
		if strings.HasPrefix(name, h+".") {
			return true
		}
	}
	return false
}

// HeadAgrees checks a tied model that stores its output embedding all the same:
// transformers ignores the copy, so it must not differ.
func HeadAgrees(ck *model.Checkpoint, embedding, head string) error {
	h := ck.Tensor(head)
	if h == nil {
		return nil
	}
	if e := ck.Tensor(embedding); !same(e, h) {
		return fmt.Errorf("%s: tie_word_embeddings is true but %s differs from %s: %w; set it to false in config.json if the head is meant to be its own",
			ck.Source.Path, head, embedding, model.ErrMismatch)
	}
	return nil
}

func same(a, b *tensor.Tensor) bool {
	return a != nil && a.Type == b.Type && string(a.Data) == string(b.Data)
}
