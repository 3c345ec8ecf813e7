package prompts

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Prefix is where the embeddings of a method whose Prefix is true go: keys and values
// before those of a text, in every layer.
type Prefix struct {
	// All says that encoder, decoder and cross-attention have keys and values of their
	// own; else it is as in PEFT.
	All bool
	// Off leaves the prefix out of forward passes.
	Off bool

	a     *Adapter
	sites []prefixSite
}

// prefixSite is an attention with the places of its keys and values among the columns
// of the embeddings, counted in widths.
type prefixSite struct {
	at   *model.Attention
	k, v int
}

// NewPrefix lists where the prefix goes. PEFT joins the embeddings of an
// encoder-decoder model to themselves and cuts the whole in four parts per layer,
// of which the decoder's self-attention gets the first two: layer l reads the
// places 4l and 4l+1 of twice 2*layers. The other two are dropped.
func NewPrefix(a *Adapter, all bool) (*Prefix, error) {
	p := &Prefix{All: all, a: a}
	for _, at := range a.Model.Attentions {
		s := prefixSite{at, 2 * at.Layer, 2*at.Layer + 1}
		switch {
		case all:
			s.k, s.v = 2*len(p.sites), 2*len(p.sites)+1
		case a.Geometry.Submodules == 2:
			if at.Cross || at.Stack != model.Decoder {
				continue
			}
			if at.Layer >= a.Geometry.Layers {
				return nil, fmt.Errorf("the decoder has more layers than the encoder (%d), and PEFT makes prefixes for as many: %w; prefix-tuning with prefix_placement all fits", a.Geometry.Layers, peft.ErrNoFit)
			}
			s.k, s.v = 4*at.Layer%(2*a.Geometry.Layers), (4*at.Layer+1)%(2*a.Geometry.Layers)
		case at.Cross || at.Stack != a.Model.Attentions[0].Stack:
			continue // a classifier made of an encoder-decoder model: the encoder's alone
		}
		if w := at.KVHeads * at.HeadDim; w != a.Geometry.Width {
			return nil, fmt.Errorf("%s has keys of %d features, the prefix has %d for every layer: %w", at.Path, w, a.Geometry.Width, peft.ErrNoFit)
		}
		p.sites = append(p.sites, s)
	}
	return p, nil
}

// Columns is the number of columns that the embeddings have.
func (p *Prefix) Columns() int {
	if p.All {
		return 2 * len(p.sites) * p.a.Geometry.Width
	}
	return 2 * p.a.Geometry.Layers * p.a.Geometry.Width
}

// Attach computes the embeddings where a stack begins and hands each layer its part.
func (p *Prefix) Attach() {
	now := map[model.Stack]*nn.Var{} // of the forward pass under way
	for _, s := range p.sites {
		stack, w := s.at.Stack, p.a.Geometry.Width
		now[stack] = nil
		AttachKeyValues(s.at, func(t *nn.Tape) (k, v *nn.Var) {
			e := now[stack]
			if p.Off {
				return nil, nil
			}
			return nn.Columns(t, e, s.k*w, (s.k+1)*w), nn.Columns(t, e, s.v*w, (s.v+1)*w)
		}, p.All)
	}
	for _, in := range p.a.Model.Inputs {
		if _, ok := now[in.Stack]; !ok {
			continue
		}
		in.Hook(func(t *nn.Tape, r *model.Rows) {
			if p.Off {
				return
			}
			now[in.Stack] = p.a.Encoder.Forward(t)
			if !p.All {
				r.Shift(p.a.Geometry.Tokens)
			}
		})
	}
}

// Record returns the keys and values that the model computes for a batch of one
// sequence without the prefix, in the layout of the embeddings: [tokens, columns].
func (p *Prefix) Record(b *model.Batch) *nn.Param {
	w := p.a.Geometry.Width
	out := nn.NewParam(Saved, len(b.Tokens), p.Columns())
	recording := true
	for _, s := range p.sites {
		s.at.Wrap(func(t *nn.Tape, q, k, v *nn.Var, spec nn.AttnSpec, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
			if recording {
				for r := range k.Rows {
					row := out.V.Data[r*p.Columns():]
					copy(row[s.k*w:(s.k+1)*w], k.Mat().Row(r))
					copy(row[s.v*w:(s.v+1)*w], v.Mat().Row(r))
				}
			}
			return next(t, q, k, v, spec)
		})
	}
	t := nn.NewTape()
	defer t.Close()
	p.Off = true
	p.a.Model.Run(t, b)
	p.Off, recording = false, false
	return out
}
