package t5

import (
	"math"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// attention is one attention with its norm and its place in the stream.
type attention struct {
	norm  *nn.NormLayer
	place *model.Attention
	end   *model.Sublayer
}

type layer struct {
	self, cross  attention // cross in the decoder only
	gate, up, wo *nn.LinearLayer
	norm         *nn.NormLayer
	end          *model.Sublayer
}

// stack is the encoder or the decoder.
type stack struct {
	side
	input  *model.Input
	bias   *nn.EmbeddingLayer
	bucket func(distance int) int
	rows   []int32 // of the table of biases
	layers []layer
	norm   *nn.NormLayer
}

type network struct {
	c        *Config
	task     model.Task
	start    int32
	enc, dec stack
	pooled   *model.PooledHead // nil where no texts are classified
}

// build makes the layers, lists them and the places without weights.
func (n *network) build(m *model.Model, o model.Options) error {
	prefix := ""
	if n.task == model.SequenceClassification {
		prefix = classifierPrefix
	}
	embed, err := load(m, prefix, sharedEmbedding)
	if err != nil {
		return err
	}
	sides := n.c.sides()
	if n.task == model.FeatureExtraction {
		sides = sides[:1]
	}
	for i, s := range sides {
		st := []*stack{&n.enc, &n.dec}[i]
		st.side = s
		if err = n.buildStack(m, st, prefix, embed); err != nil {
			return err
		}
	}
	switch n.task {
	case model.FeatureExtraction:
		return nil
	case model.SequenceClassification:
		n.pooled, err = m.NewPooledHead(o, n.c.DModel, n.c.InitFactor/math.Sqrt(float64(n.c.DModel)), n.c.ClassifierDropout)
		return err
	}
	w, err := load(m, prefix, head)
	if err != nil {
		return err
	}
	if m.TiedHead = w == nil; m.TiedHead {
		w = embed
	}
	m.Head = &nn.LinearLayer{Path: head, W: w}
	m.Modules = append(m.Modules, &model.Module{Path: head, Linear: m.Head, Output: true})
	return nil
}

// load returns the weight of a module, nil when there is none, with the name that
// it has in the network being built, whether that is a classifier or the file is.
func load(m *model.Model, prefix, module string) (*nn.Weight, error) {
	name := module + ".weight"
	if m.Tensor(name) == nil {
		name = classifierPrefix + name
	}
	w, err := m.LoadWeight(name)
	if w != nil {
		w.Name = prefix + module + ".weight"
	}
	return w, err
}

// buildStack makes the modules of one side. prefix stands before their paths.
func (n *network) buildStack(m *model.Model, s *stack, prefix string, embed *nn.Weight) error {
	path := prefix + s.hf + "embed_tokens"
	words := &nn.EmbeddingLayer{Path: path, W: embed}
	m.Modules = append(m.Modules, &model.Module{Path: path, Embedding: words})
	s.input = &model.Input{Stack: s.stack, Embedding: words}
	m.Inputs = append(m.Inputs, s.input)
	linears, norms := map[string]*nn.LinearLayer{}, map[string]*nn.NormLayer{}
	for _, mod := range n.c.modules(s.side) {
		w, err := load(m, prefix, mod.hf)
		if err != nil {
			return err
		}
		path := prefix + mod.hf
		entry := &model.Module{Path: path}
		switch mod.kind {
		case linear:
			entry.Linear = &nn.LinearLayer{Path: path, W: w}
			linears[mod.hf] = entry.Linear
		case norm:
			entry.Norm = &nn.NormLayer{Path: path, W: w, Eps: float32(n.c.Eps)}
			norms[mod.hf] = entry.Norm
		default:
			s.bias = &nn.EmbeddingLayer{Path: path, W: w}
			entry.Embedding = s.bias
		}
		m.Modules = append(m.Modules, entry)
	}
	s.norm = norms[s.hf+outNorm]
	s.bucket = buckets(s.bothSides, n.c.Buckets, n.c.MaxDistance)
	for i := range n.c.Buckets {
		s.rows = append(s.rows, int32(i))
	}
	s.layers = make([]layer, s.side.layers)
	for l := range s.layers {
		lay := &s.layers[l]
		for i, k := range s.sublayers {
			p := s.sublayer(l, i)
			end := &model.Sublayer{
				SublayerLayer: &nn.SublayerLayer{Path: prefix + p, LayerPath: prefix + s.block(l)},
				Kind:          k, Stack: s.stack, Layer: l, Hidden: n.c.DModel,
			}
			m.Sublayers = append(m.Sublayers, end)
			if k == model.FeedForward {
				ff := p + ".DenseReluDense."
				lay.norm, lay.end, lay.wo = norms[p+".layer_norm"], end, linears[ff+"wo"]
				if lay.up = linears[ff+"wi"]; n.c.gated {
					lay.gate, lay.up = linears[ff+"wi_0"], linears[ff+"wi_1"]
				}
				continue
			}
			at := p + attentionName(k)
			a := attention{norm: norms[p+".layer_norm"], end: end}
			a.place = &model.Attention{
				AttentionLayer: &nn.AttentionLayer{Path: prefix + at, Heads: n.c.NumHeads, KVHeads: n.c.NumHeads, HeadDim: n.c.DKV},
				Stack:          s.stack, Layer: l, Cross: k == model.CrossAttention,
				Q: linears[at+".q"], K: linears[at+".k"], V: linears[at+".v"], O: linears[at+".o"],
			}
			m.Attentions = append(m.Attentions, a.place)
			if a.place.Cross {
				lay.cross = a
			} else {
				lay.self = a
			}
		}
	}
	return nil
}

// run computes what the head reads: [rows, d_model].
func (n *network) run(t *nn.Tape, b *model.Batch) *model.States {
	switch n.task {
	case model.FeatureExtraction:
		in, x := n.encode(t, b)
		return in.States(x)
	case model.SequenceClassification:
		return n.pooled.Run(t, b, n.start, n.c.EOS, n.decode)
	}
	s := n.decode(t, b)
	if n.c.scaled() {
		x := s.X
		s.X = nn.Scale(t, x, float32(1/math.Sqrt(float64(n.c.DModel))))
		t.Discard(x)
	}
	return s
}

// encode runs the encoder.
func (n *network) encode(t *nn.Tape, b *model.Batch) (*model.Rows, *nn.Var) {
	s := &n.enc
	in := s.input.Forward(t, b)
	x, table := nn.BaseDropout(t, in.X, n.c.Dropout), s.bias.Forward(t, s.rows)
	for l := range s.layers {
		lay := &s.layers[l]
		x = lay.self.run(t, x, n.c.Dropout, func(h *nn.Var) *nn.Var {
			return lay.self.place.AttendSelf(t, h, nil, n.spec(s, in.Seqs, table))
		})
		x = lay.feedForward(t, x, n.c)
	}
	return in, s.leave(t, x, table, n.c.Dropout)
}

// decode runs the decoder, and the encoder unless a cache holds the source. It
// returns the rows before the scale of the head.
func (n *network) decode(t *nn.Tape, b *model.Batch) *model.States {
	var mem model.Memory
	if b.Cache == nil || !b.Cache.HasSource() {
		if b.Source == nil {
			panic("model/t5: a batch without a source")
		}
		in, x := n.encode(t, b.Source)
		mem = model.Memory{X: x, Seqs: in.Seqs}
	}
	s := &n.dec
	in := s.input.Forward(t, b)
	x, table := nn.BaseDropout(t, in.X, n.c.Dropout), s.bias.Forward(t, s.rows)
	for l := range s.layers {
		lay := &s.layers[l]
		x = lay.self.run(t, x, n.c.Dropout, func(h *nn.Var) *nn.Var {
			spec := n.spec(s, in.Seqs, table)
			spec.Causal = true
			return lay.self.place.AttendSelf(t, h, b.Cache, spec)
		})
		x = lay.cross.run(t, x, n.c.Dropout, func(h *nn.Var) *nn.Var {
			return lay.cross.place.AttendCross(t, h, b.Cache, mem, n.spec(s, in.Seqs, nil))
		})
		x = lay.feedForward(t, x, n.c)
	}
	t.Discard(mem.X)
	if b.Cache != nil {
		b.Cache.Advance(in.X.Rows)
	}
	return in.States(s.leave(t, x, table, n.c.Dropout))
}

// spec describes the attention of a stack: no scale, and a bias if it has a table.
func (n *network) spec(s *stack, seqs []nn.Span, table *nn.Var) nn.AttnSpec {
	spec := nn.AttnSpec{Scale: 1, Seqs: seqs, Dropout: n.c.Dropout}
	if table != nil {
		spec.Bias = &nn.RelativeBias{Table: table, Bucket: s.bucket}
	}
	return spec
}

// leave norms what the last layer gives. It uses up x and the table of biases.
func (s *stack) leave(t *nn.Tape, x, table *nn.Var, dropout float64) *nn.Var {
	y := s.norm.Forward(t, x)
	t.Discard(x, table)
	return nn.BaseDropout(t, y, dropout)
}

// run computes the sublayer of an attention: body turns what the attention reads
// into its output, which joins the stream x. It uses up x.
func (a *attention) run(t *nn.Tape, x *nn.Var, dropout float64, body func(h *nn.Var) *nn.Var) *nn.Var {
	h := a.norm.Forward(t, x)
	next := a.end.Forward(t, x, h, nn.BaseDropout(t, body(h), dropout))
	t.Discard(x, h)
	return next
}

// feedForward computes the last sublayer of a layer. It uses up x.
func (l *layer) feedForward(t *nn.Tape, x *nn.Var, c *Config) *nn.Var {
	h := l.norm.Forward(t, x)
	up := l.up.Forward(t, h)
	var gate, a *nn.Var
	if l.gate == nil {
		a = nn.Apply(t, up, c.act)
	} else {
		gate = l.gate.Forward(t, h)
		a = nn.Gated(t, c.act, gate, up)
	}
	a = nn.BaseDropout(t, a, c.Dropout)
	next := l.end.Forward(t, x, h, nn.BaseDropout(t, l.wo.Forward(t, a), c.Dropout))
	t.Discard(gate, up, a, x, h)
	return next
}
