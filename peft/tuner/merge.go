package tuner

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Changes implements peft.Merger: it builds the model that the adapter is about
// without attaching, and asks each site for its change of the stored weight.
//
// Whole tensors of the file (modules_to_save, biases, saved embeddings, which may
// have more tokens than the base) replace the base's before anything is added.
func (m *Method) Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*peft.ChangeSet, error) {
	mod, err := peft.BuildFor(a, c)
	if err != nil {
		return nil, err
	}
	f, err := open(a)
	if err != nil {
		return nil, err
	}
	ad, err := m.read(mod, f)
	if err != nil {
		return nil, err
	}
	out := &peft.ChangeSet{Matched: len(a.Tensors), Changes: f.bases}
	out.Changes = append(out.Changes, f.wholes(c, ad)...)
	var rest []*nn.Param
	for _, p := range ad.saved {
		switch {
		case f.replaced[p.Name]:
		case slices.Contains(ad.whole, p) && f.set.Has(p.Name):
			out.Changes = append(out.Changes, peft.ReplaceBy(p, mod))
			rest = append(rest, p)
		default:
			rest = append(rest, p)
		}
	}
	if scale != 1 && len(out.Changes) > len(f.bases) {
		return nil, wholeScale(a, scale)
	}
	if err := f.set.Fill(rest...); err != nil {
		return nil, err
	}
	ad.settle()
	for i, s := range ad.Sites {
		ch, err := change(s, ad.Places[i], scale)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", a.Path, ad.Places[i].Path, err)
		}
		out.Changes = append(out.Changes, ch...)
	}
	return out, nil
}

// change is what one site does to the tensors of its module.
func change(s Site, p *Place, scale float32) ([]peft.Change, error) {
	if f, ok := s.(Follower); ok && f.Follows() {
		return nil, nil
	}
	ch := peft.Change{Tensor: p.Path + ".weight"}
	w := p.Mod.Weight()
	switch s := s.(type) {
	case RowMerging:
		ch.Apply = func(v []float32, r0, r1 int) {
			s.MergeRows(kernels.MatOf(v, r1-r0, p.In), r0, r1, scale)
		}
		if w.Conv1D {
			ch.Whole = true
			ch.Apply = func(v []float32, _, _ int) {
				turned(v, p, func(m kernels.Mat) { s.MergeRows(m, 0, p.Out, scale) })
			}
		}
	case Merging:
		ch.Whole = true
		ch.Apply = func(v []float32, _, _ int) {
			if !w.Conv1D {
				s.Merge(kernels.MatOf(v, p.Out, p.In), scale)
				return
			}
			turned(v, p, func(m kernels.Mat) { s.Merge(m, scale) })
		}
	case BiasMerging: // nothing but the bias
	default:
		return nil, fmt.Errorf("its change of the module %w into the weight", peft.ErrNotMergeable)
	}
	if t, ok := s.(TiedMerging); ok {
		ch.Tied = t.MergesTied()
	}
	var out []peft.Change
	if ch.Apply != nil {
		out = append(out, ch)
		for i, name := range p.Tensors {
			if ch.Tensor = name; i == 0 {
				out[0] = ch
				continue
			}
			out = append(out, ch)
		}
	}
	if b, ok := s.(BiasMerging); ok {
		if p.Mod.Bias() == nil {
			if b.NeedsBias() {
				return nil, fmt.Errorf("the adapter adds to the bias, and the base model has none there; use it unmerged, as an adapter: %w", peft.ErrNotMergeable)
			}
			return out, nil
		}
		out = append(out, peft.Change{Tensor: p.Path + ".bias", Whole: true, Apply: func(v []float32, _, _ int) { b.MergeBias(v, scale) }})
	}
	return out, nil
}

// turned calls f with the transpose of v, stored [in, out], and writes it back.
func turned(v []float32, p *Place, f func(kernels.Mat)) {
	m := kernels.NewMat(p.Out, p.In)
	for i := range p.In {
		for o := range p.Out {
			m.Data[o*m.Stride+i] = v[i*p.Out+o]
		}
	}
	f(m)
	for i := range p.In {
		for o := range p.Out {
			v[i*p.Out+o] = m.Data[o*m.Stride+i]
		}
	}
}

// AddDense adds scale times a dense change D, [out, in], to a linear layer's weight
// within its product, which then costs no more than without; make computes D in each
// forward pass. The gradient of D is one more product with the size of the weight. If
// make says how to recompute D, no D is kept until then.
func AddDense(l *nn.LinearLayer, scale float32, make func(t *nn.Tape) *nn.Var) {
	l.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank { return nn.LowRank{B: make(t), Scale: scale} })
}

// Uniform fills v with numbers between -bound and bound.
func Uniform(v []float32, bound float64, next func() float64) {
	for i := range v {
		v[i] = float32((2*next() - 1) * bound)
	}
}

// Normal fills v with normal numbers of deviation sigma.
func Normal(v []float32, sigma float64, next func() float64) {
	for i := range v {
		v[i] = float32(sigma * next())
	}
}
