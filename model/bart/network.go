package bart

import (
	"math"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// attention is one attention with its norm and its place in the
// residual stream.
type attention struct {
	norm  *nn.NormLayer
	place *model.Attention
	end   *model.Sublayer
}

type layer struct {
	self, cross attention // cross in the decoder only
	fc1, fc2    *nn.LinearLayer
	norm        *nn.NormLayer
	end         *model.Sublayer
}

// stack is the encoder or the decoder.
type stack struct {
	side
	input     *model.Input
	embed     *nn.EmbeddingLayer
	positions *nn.EmbeddingLayer
	embedNorm *nn.NormLayer // nil in Marian
	layers    []layer
	norm      *nn.NormLayer // mBART's last
}

type network struct {
	c        *Config
	enc, dec stack
	classify bool
	pooled   *model.PooledHead // nil where no texts are classified
}

const normEps = 1e-5 // torch's default

// build makes the layers, lists them and the places without weights.
func (n *network) build(m *model.Model, o model.Options) error {
	n.classify = o.Task == model.SequenceClassification
	encW, decW, outW, err := n.embeddings(m)
	if err != nil {
		return err
	}
	sides := n.c.sides()
	for i, s := range []*stack{&n.enc, &n.dec} {
		s.side = sides[i]
		if err := n.buildStack(m, s, []*nn.Weight{encW, decW}[i]); err != nil {
			return err
		}
	}
	if n.classify {
		var err error
		n.pooled, err = m.NewPooledHead(o, n.c.DModel, n.c.InitStd, n.c.ClassifierDropout)
		return err
	}
	m.TiedHead = outW == decW
	m.Head = &nn.LinearLayer{Path: head, W: outW}
	if t := m.Tensor(logitsBias); t != nil {
		b, err := t.AllFloats()
		if err != nil {
			return err
		}
		// A buffer of zeros in nearly every checkpoint; methods that train biases
		// must find none then.
		for _, v := range b {
			if v != 0 {
				m.Head.Bias = nn.VectorWeight(logitsBias, b)
				break
			}
		}
	}
	m.Modules = append(m.Modules, &model.Module{Path: head, Linear: m.Head, Output: true})
	return nil
}

// buildStack makes the modules of one side.
func (n *network) buildStack(m *model.Model, s *stack, embed *nn.Weight) error {
	linears, norms := map[string]*nn.LinearLayer{}, map[string]*nn.NormLayer{}
	for _, mod := range n.c.modules(s.side) {
		w := embed
		if mod.kind != embedding {
			var err error
			if w, err = m.LoadWeight(mod.path + ".weight"); err != nil {
				return err
			}
		}
		var bias *nn.Weight
		if mod.kind == linear || mod.kind == norm {
			var err error
			if bias, err = m.LoadWeight(mod.path + ".bias"); err != nil {
				return err
			}
		}
		entry := &model.Module{Path: mod.path}
		switch mod.kind {
		case linear:
			entry.Linear = &nn.LinearLayer{Path: mod.path, W: w, Bias: bias}
			linears[mod.path] = entry.Linear
		case norm:
			entry.Norm = &nn.NormLayer{Path: mod.path, W: w, Bias: bias, Eps: normEps, Center: true}
			norms[mod.path] = entry.Norm
		default:
			entry.Embedding = &nn.EmbeddingLayer{Path: mod.path, W: w}
			if mod.kind == embedding {
				entry.Embedding.Padding = n.c.PAD
				if n.c.ScaleEmbedding {
					entry.Embedding.Scale = float32(math.Sqrt(float64(n.c.DModel)))
				}
				s.embed = entry.Embedding
			} else {
				s.positions = entry.Embedding
			}
		}
		m.Modules = append(m.Modules, entry)
	}
	if n.c.kind.sinusoid {
		path := s.prefix + "embed_positions"
		w, err := m.LoadWeight(path + ".weight")
		if w == nil && err == nil {
			w, err = sinusoids(n.c.MaxPositionEmbeddings, n.c.DModel)
		}
		if err != nil {
			return err
		}
		s.positions = &nn.EmbeddingLayer{Path: path, W: w} // fixed: no module for methods
	}
	s.embedNorm, s.norm = norms[s.prefix+"layernorm_embedding"], norms[s.prefix+"layer_norm"]
	s.input = &model.Input{Stack: s.stack, Embedding: s.embed}
	m.Inputs = append(m.Inputs, s.input)

	s.layers = make([]layer, s.side.layers)
	for i := range s.layers {
		l, p := &s.layers[i], s.layer(i)
		end := func(path string, kind model.SublayerKind, norm *nn.NormLayer) *model.Sublayer {
			if n.c.kind.preNorm {
				norm = nil
			}
			sub := &model.Sublayer{
				SublayerLayer: &nn.SublayerLayer{Path: path, LayerPath: p, Norm: norm},
				Kind:          kind, Stack: s.stack, Layer: i, Hidden: n.c.DModel,
			}
			m.Sublayers = append(m.Sublayers, sub)
			return sub
		}
		attend := func(path string, kind model.SublayerKind) attention {
			a := attention{norm: norms[path+"_layer_norm"]}
			a.place = &model.Attention{
				AttentionLayer: &nn.AttentionLayer{Path: path, Heads: s.heads, KVHeads: s.heads, HeadDim: n.c.DModel / s.heads},
				Stack:          s.stack, Layer: i, Cross: kind == model.CrossAttention,
				Q: linears[path+".q_proj"], K: linears[path+".k_proj"], V: linears[path+".v_proj"], O: linears[path+".out_proj"],
			}
			a.end = end(path, kind, a.norm)
			m.Attentions = append(m.Attentions, a.place)
			return a
		}
		l.self = attend(p+".self_attn", model.SelfAttention)
		if s.stack == model.Decoder {
			l.cross = attend(p+".encoder_attn", model.CrossAttention)
		}
		l.fc1, l.fc2, l.norm = linears[p+".fc1"], linears[p+".fc2"], norms[p+".final_layer_norm"]
		l.end = end(p+".fc2", model.FeedForward, l.norm)
	}
	return nil
}

// run computes the decoder: [rows, d_model]; or what the classifier reads.
func (n *network) run(t *nn.Tape, b *model.Batch) *model.States {
	if n.classify {
		return n.pooled.Run(t, b, n.begin(), n.c.EOS, n.decode)
	}
	return n.decode(t, b)
}

// encode runs the encoder over the sources.
func (n *network) encode(t *nn.Tape, b *model.Batch) model.Memory {
	in, x := n.enter(t, &n.enc, b)
	spec := n.spec(&n.enc, in.Seqs)
	for i := range n.enc.layers {
		l := &n.enc.layers[i]
		if nn.LayerDrop(t, n.c.EncoderLayerdrop) {
			continue
		}
		x = l.self.run(t, x, n.c.Dropout, func(h *nn.Var) *nn.Var {
			return l.self.place.AttendSelf(t, h, nil, spec)
		})
		x = l.feedForward(t, x, n.c)
	}
	return model.Memory{X: n.enc.leave(t, x), Seqs: in.Seqs}
}

// decode runs the decoder, and the encoder unless a cache holds the source.
func (n *network) decode(t *nn.Tape, b *model.Batch) *model.States {
	var mem model.Memory
	if b.Cache == nil || !b.Cache.HasSource() {
		if b.Source == nil {
			panic("model/bart: a batch without a source")
		}
		mem = n.encode(t, b.Source)
	}
	in, x := n.enter(t, &n.dec, b)
	for i := range n.dec.layers {
		l := &n.dec.layers[i]
		if nn.LayerDrop(t, n.c.DecoderLayerdrop) {
			continue
		}
		x = l.self.run(t, x, n.c.Dropout, func(h *nn.Var) *nn.Var {
			spec := n.spec(&n.dec, in.Seqs)
			spec.Causal = true
			return l.self.place.AttendSelf(t, h, b.Cache, spec)
		})
		x = l.cross.run(t, x, n.c.Dropout, func(h *nn.Var) *nn.Var {
			return l.cross.place.AttendCross(t, h, b.Cache, mem, n.spec(&n.dec, in.Seqs))
		})
		x = l.feedForward(t, x, n.c)
	}
	t.Discard(mem.X)
	if b.Cache != nil {
		b.Cache.Advance(in.X.Rows)
	}
	return in.States(n.dec.leave(t, x))
}

// spec describes the attention of a stack.
func (n *network) spec(s *stack, seqs []nn.Span) nn.AttnSpec {
	return nn.AttnSpec{Scale: float32(1 / math.Sqrt(float64(n.c.DModel/s.heads))), Seqs: seqs, Dropout: n.c.AttentionDropout}
}

// enter embeds tokens and positions.
func (n *network) enter(t *nn.Tape, s *stack, b *model.Batch) (*model.Rows, *nn.Var) {
	in := s.input.Forward(t, b)
	pos := in.Pos
	if !n.c.kind.sinusoid {
		pos = make([]int32, len(in.Pos))
		for i, p := range in.Pos {
			pos[i] = p + positionOffset
		}
	}
	p := s.positions.Forward(t, pos)
	x := nn.Add(t, in.X, p)
	t.Discard(in.X)
	if s.embedNorm != nil {
		normed := s.embedNorm.Forward(t, x)
		t.Discard(x)
		x = normed
	}
	return in, nn.BaseDropout(t, x, n.c.Dropout)
}

// leave norms what the last layer gives, where the family does.
func (s *stack) leave(t *nn.Tape, x *nn.Var) *nn.Var {
	if s.norm == nil {
		return x
	}
	y := s.norm.Forward(t, x)
	t.Discard(x)
	return y
}

// begin is the token that the decoder of a classifier begins with.
func (n *network) begin() int32 {
	switch {
	case n.c.Start != nil:
		return *n.c.Start
	case len(n.c.EOS) > 0:
		return n.c.EOS[0]
	}
	return 0
}
