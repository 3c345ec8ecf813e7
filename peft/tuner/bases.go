package tuner

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// baseNames are the names under which PEFT saves the base's own weight of a module
// beside a change of it (save_embedding_layers, which it sets by itself when the
// vocabulary was resized).
var baseNames = []string{".base_layer.weight", ".token_adapter.base_layer.weight", ".original_module.weight"}

// shared are the modules of one weight.
type shared struct {
	modules []*model.Module
	names   []string       // of the file's tensors with that weight
	base    *tensor.Tensor // the last of them, which counts in PEFT
	// whole is a tensor that trains a module in full (modules_to_save).
	whole *tensor.Tensor
	// all says that every module is trained in full.
	all, vocabulary bool
}

// sharedWeights lists the weights of a model's linear layers and embeddings.
func sharedWeights(mod *model.Model) []*shared {
	var out []*shared
	by := map[*nn.Weight]*shared{}
	for _, m := range mod.Modules {
		if m.Norm != nil {
			continue
		}
		g := by[m.Weight()]
		if g == nil {
			g = &shared{all: true}
			by[m.Weight()] = g
			out = append(out, g)
		}
		g.modules = append(g.modules, m)
		g.vocabulary = g.vocabulary || m.Output || m.Embedding != nil && m.Weight().Out == mod.VocabSize
	}
	return out
}

// ownBases gives modules the weights that the file carries for them beside a change.
// Where these have another number of tokens than the model, the model gets their
// vocabulary.
func (f *file) ownBases(mod *model.Model, tie *tying) error {
	groups := sharedWeights(mod)
	vocab := mod.VocabSize
	for _, g := range groups {
		if err := f.find(g, tie); err != nil {
			return err
		}
		for _, t := range []*tensor.Tensor{g.base, g.whole} {
			if t == nil || !g.vocabulary || t.Shape[0] == vocab {
				continue
			}
			if vocab != mod.VocabSize {
				return fmt.Errorf("%s: %s has %d tokens, another embedding %d: %w", f.a.Path, t.Name, t.Shape[0], vocab, peft.ErrTensors)
			}
			vocab = t.Shape[0]
		}
	}
	resized := vocab != mod.VocabSize
	if resized && mod.EncoderDecoder() {
		return fmt.Errorf("%s: it was trained with %d tokens, the model has %d; the vocabulary of an encoder-decoder model is not resized here: merge the adapter in PEFT: %w", f.a.Path, vocab, mod.VocabSize, peft.ErrTensors)
	}
	for _, g := range groups {
		if err := f.give(g, vocab, resized && g.vocabulary); err != nil {
			return err
		}
	}
	mod.VocabSize = vocab
	return nil
}

// find takes the tensors of the file that hold the weight of g.
func (f *file) find(g *shared, tie *tying) error {
	for _, m := range g.modules {
		saved := f.cfg.Saves(m.Path) || tie != nil && tie.whole && tie.has(m)
		g.all = g.all && saved
		plain := peft.Prefix + m.Path + ".weight"
		names := []string{}
		for _, end := range baseNames {
			names = append(names, peft.Prefix+m.Path+end)
		}
		if g.vocabulary && !saved {
			names = append(names, plain)
		}
		if saved && f.set.Has(plain) {
			g.whole = f.set.Peek(plain)
			f.set.Take(peft.Prefix + m.Path + ".modules_to_save.weight") // the same again
		}
		for _, name := range names {
			t := f.set.Take(name)
			if t == nil {
				continue
			}
			if w := m.Weight(); len(t.Shape) != 2 || w.Transposed || w.Conv1D || t.Cols() != w.In || t.Rows() != w.Out && !g.vocabulary {
				return fmt.Errorf("%s: %s has shape %v, the model has [%d %d]: %w", f.a.Path, t.Name, t.Shape, w.Out, w.In, peft.ErrTensors)
			}
			g.names, g.base = append(g.names, name), t
		}
		if g.whole != nil && (len(g.whole.Shape) != 2 || g.whole.Cols() != m.Weight().In) {
			g.whole = nil // told when it is read
		}
	}
	return nil
}

// give gives the modules of g the weight that the file has for them, or the model's
// own with fewer rows.
func (f *file) give(g *shared, vocab int, resize bool) error {
	old := g.modules[0].Weight()
	t := g.base
	if t == nil && resize && g.all {
		t = g.whole // the base's rows are not read again
	}
	var w *nn.Weight
	switch {
	case t == nil && !resize, t != nil && t == g.base && sameWeight(t, old):
		return nil
	case t != nil:
		if resize && g.modules[0].Bias() != nil {
			return fmt.Errorf("%s: it was trained with %d tokens, the model has %d, and its output embedding has a bias, which is not resized here: merge the adapter in PEFT: %w", f.a.Path, vocab, old.Out, peft.ErrTensors)
		}
		frozen, err := t.Weight()
		if err != nil {
			return formats.At(f.a.Path, err)
		}
		copied := *frozen
		copied.Data = slices.Clone(copied.Data) // outlives the file
		w = &nn.Weight{Name: old.Name, Out: t.Rows(), In: t.Cols(), Frozen: &copied}
		for _, name := range g.names {
			f.kept = append(f.kept, formats.OutTensor{Name: name, Type: t.Type, Shape: t.Shape, WriteTo: func(to io.Writer) error {
				_, err := to.Write(copied.Data)
				return err
			}})
		}
	case vocab > old.Out:
		return fmt.Errorf("%s: it was trained with %d tokens, the model has %d, and the file has no weight of %s with as many: PEFT would begin its new rows at random; save the adapter with save_embedding_layers=True: %w",
			f.a.Path, vocab, old.Out, peft.Prefix+g.modules[0].Path, peft.ErrTensors)
	default:
		w = &nn.Weight{Name: old.Name, Out: vocab, In: old.In, Frozen: firstRows(old, vocab)}
	}
	for _, m := range g.modules {
		m.SetWeight(w)
	}
	if t == nil || t == g.base {
		f.bases = append(f.bases, peft.Change{Tensor: g.modules[0].Path + ".weight", Shape: []int{w.Out, w.In}, Tied: len(g.modules) > 1, Replace: func(dst []float32, r0, r1 int) error {
			for r := r0; r < r1; r++ {
				w.Row(dst[(r-r0)*w.In:(r-r0+1)*w.In], r)
			}
			return nil
		}})
	}
	return nil
}

// firstRows is a frozen weight with the first n rows of another.
func firstRows(w *nn.Weight, n int) *kernels.Weight {
	if w.Frozen != nil {
		f := *w.Frozen
		f.Rows = n
		if f.Perm != nil {
			f.Perm = f.Perm[:n]
		}
		return &f
	}
	data := make([]byte, 4*n*w.In)
	row := make([]float32, w.In)
	for r := range n {
		w.Row(row, r)
		tensor.F32.Encode(data[4*r*w.In:4*(r+1)*w.In], row)
	}
	return &kernels.Weight{Data: data, Rows: n, Cols: w.In, RowBytes: 4 * w.In, Block: 1, BlockBytes: 4, Decode: tensor.F32.Decode, Float32: true}
}

// sameWeight reports whether a tensor of the file is the model's weight as it is.
func sameWeight(t *tensor.Tensor, w *nn.Weight) bool {
	if t.Rows() != w.Out || t.Cols() != w.In {
		return false
	}
	a, b := make([]float32, w.In), make([]float32, w.In)
	for r := range w.Out {
		w.Row(b, r)
		if t.Floats(a, r, r+1) != nil || !slices.Equal(a, b) {
			return false
		}
	}
	return true
}

// copies takes the tensors of trained tokens that the file has again for the modules
// that share them.
func (f *file) copies(ad *Adapter) {
	for i, s := range ad.Sites {
		if t, ok := s.(*Tokens); ok {
			end := strings.TrimPrefix(t.Delta.Name, peft.Prefix+ad.Places[i].Path)
			for _, m := range t.Tied {
				f.set.Take(peft.Prefix + m.Path + end)
			}
		}
	}
}
