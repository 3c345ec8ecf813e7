package encoder

import (
	"math"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

type block struct {
	q, k, v, o, up, down *nn.LinearLayer
	attn                 *model.Attention
	attnOut, ffnOut      *model.Sublayer
}

type network struct {
	s    *Spec
	c    *Config
	task model.Task

	input            *model.Input
	words, pos, typs *nn.EmbeddingLayer
	norm             *nn.NormLayer
	blocks           []block
	act              nn.Activation
	dense            *nn.LinearLayer // of the head; nil without one
}

// build makes a layer of each module and wires it to its place.
func (n *network) build(m *model.Model, o model.Options) error {
	s, c := n.s, n.c
	n.act, _ = nn.ActivationByName(c.Act) // checked with the configuration
	layers := map[string]*model.Module{}
	for _, mod := range s.modules(c) {
		w, err := m.LoadWeight(mod.hf + ".weight")
		if err != nil {
			return err
		}
		var bias *nn.Weight
		if mod.kind != embedding {
			if bias, err = m.LoadWeight(mod.hf + ".bias"); err != nil {
				return err
			}
		}
		entry := &model.Module{Path: mod.hf}
		switch mod.kind {
		case embedding:
			entry.Embedding = &nn.EmbeddingLayer{Path: mod.hf, W: w}
		case norm:
			entry.Norm = &nn.NormLayer{Path: mod.hf, W: w, Bias: bias, Eps: float32(c.Eps), Center: true}
		default:
			entry.Linear = &nn.LinearLayer{Path: mod.hf, W: w, Bias: bias}
		}
		layers[mod.hf] = entry
		m.Modules = append(m.Modules, entry)
	}
	e := s.Base + ".embeddings."
	n.words, n.pos, n.norm = layers[e+"word_embeddings"].Embedding, layers[e+"position_embeddings"].Embedding, layers[e+"LayerNorm"].Norm
	if t := layers[e+"token_type_embeddings"]; t != nil {
		n.typs = t.Embedding
	}
	if c.Padding >= 0 {
		pad := int32(c.Padding)
		n.words.Padding = &pad
		if c.Offset > 0 { // padding has a position of its own
			n.pos.Padding = &pad
		}
	}
	n.input = &model.Input{Stack: model.Encoder, Embedding: n.words}
	m.Inputs = []*model.Input{n.input}
	n.blocks = make([]block, c.Layers)
	for l := range n.blocks {
		n.wire(m, l, layers)
	}
	return n.buildHead(m, o)
}

// wire connects layer l with its modules and lists its places.
func (n *network) wire(m *model.Model, l int, layers map[string]*model.Module) {
	s, c, b, p := n.s, n.c, &n.blocks[l], n.s.layer(l)
	at := func(i int) *model.Module { return layers[p+s.Layer[i]] }
	b.q, b.k, b.v, b.o, b.up, b.down = at(0).Linear, at(1).Linear, at(2).Linear, at(3).Linear, at(5).Linear, at(6).Linear
	b.attn = &model.Attention{
		AttentionLayer: &nn.AttentionLayer{Path: p + s.Attention, Heads: c.Heads, KVHeads: c.Heads, HeadDim: c.Hidden / c.Heads},
		Stack:          model.Encoder, Layer: l, Q: b.q, K: b.k, V: b.v, O: b.o,
	}
	m.Attentions = append(m.Attentions, b.attn)
	sub := func(path string, kind model.SublayerKind, norm *nn.NormLayer) *model.Sublayer {
		out := &model.Sublayer{
			SublayerLayer: &nn.SublayerLayer{Path: p + path, LayerPath: strings.TrimSuffix(p, "."), Norm: norm},
			Kind:          kind, Stack: model.Encoder, Layer: l, Hidden: c.Hidden,
		}
		m.Sublayers = append(m.Sublayers, out)
		return out
	}
	b.attnOut = sub(s.AttentionOut, model.SelfAttention, at(4).Norm)
	b.ffnOut = sub(s.FeedForwardOut, model.FeedForward, at(7).Norm)
}

// buildHead makes the head of the task.
func (n *network) buildHead(m *model.Model, o model.Options) error {
	add := func(path string, out int, head bool) (*nn.LinearLayer, error) {
		w, err := m.HeadWeight(o, path+".weight", n.c.Init, out, n.c.Hidden)
		if err != nil {
			return nil, err
		}
		b, err := m.HeadWeight(o, path+".bias", n.c.Init, out)
		if err != nil {
			return nil, err
		}
		l := &nn.LinearLayer{Path: path, W: w, Bias: b}
		m.Modules = append(m.Modules, &model.Module{Path: path, Linear: l, Head: head})
		return l, nil
	}
	var err error
	switch h := n.s.Head; o.Task {
	case model.SequenceClassification:
		if n.dense, err = add(h.Dense, n.c.Hidden, !h.Pooled); err != nil {
			return err
		}
		if h.Pooled && len(m.Fresh) > 0 {
			// The base has no pooler: ours belongs to the head, or a saved adapter would
			// not bring it along.
			m.Modules[len(m.Modules)-1].Head = true
			m.HeadModules = append(m.HeadModules, strings.TrimSuffix(h.Dense, ".dense"))
		}
		m.HeadModules = append(m.HeadModules, h.Modules...)
		m.Head, err = add(h.Out, len(o.Labels), true)
	case model.TokenClassification:
		m.HeadModules = []string{tokenHead}
		m.Head, err = add(tokenHead, len(o.Labels), true)
	default:
		if h := n.s.Head; h.Pooled && m.Tensor(h.Dense+".weight") != nil {
			_, err = add(h.Dense, n.c.Hidden, false)
		}
	}
	return err
}

// run computes the encoder and what lies between it and the last linear.
func (n *network) run(t *nn.Tape, b *model.Batch) *model.States {
	in := n.input.Forward(t, b)
	x := n.embed(t, in)
	drop := &n.c.Dropout
	spec := nn.AttnSpec{Scale: float32(1 / math.Sqrt(float64(n.c.Hidden/n.c.Heads))), Seqs: in.Seqs, Dropout: drop.Attention}
	for l := range n.blocks {
		blk := &n.blocks[l]
		q, k, v := blk.q.Forward(t, x), blk.k.Forward(t, x), blk.v.Forward(t, x)
		a := blk.attn.Forward(t, q, k, v, spec)
		y := nn.BaseDropout(t, blk.o.Forward(t, a), drop.AttentionOut)
		next := blk.attnOut.Forward(t, x, x, y)
		t.Discard(x, q, k, v, a)
		x = next

		up := blk.up.Forward(t, x)
		a = nn.Apply(t, up, n.act)
		y = nn.BaseDropout(t, blk.down.Forward(t, a), drop.Hidden)
		next = blk.ffnOut.Forward(t, x, x, y)
		t.Discard(x, up, a)
		x = next
	}
	switch n.task {
	case model.SequenceClassification:
		return &model.States{X: n.first(t, in, x)}
	case model.TokenClassification:
		x = nn.BaseDropout(t, x, drop.Token)
	}
	return in.States(x)
}

// first returns what the last linear of a sequence classifier reads, of the first
// row of each sequence. It uses up x.
func (n *network) first(t *nn.Tape, in *model.Rows, x *nn.Var) *nn.Var {
	at := make([]int32, len(in.Seqs))
	for i, s := range in.Seqs {
		at[i] = int32(s.Start)
	}
	rows := nn.GatherRows(t, x, at)
	t.Discard(x)
	rows = nn.BaseDropout(t, rows, n.c.Dropout.Dense)
	return nn.BaseDropout(t, nn.Apply(t, n.dense.Forward(t, rows), n.s.Head.Act), n.c.Dropout.Sequence)
}

// embed adds token types and positions to the rows and norms the sum.
func (n *network) embed(t *nn.Tape, in *model.Rows) *nn.Var {
	x := in.X
	if n.typs != nil {
		ids := in.Types
		if ids == nil || n.c.Types == 1 { // tokenizers of BERT on a table of one type
			ids = make([]int32, x.Rows)
		}
		sum := nn.Add(t, x, n.typs.Forward(t, ids))
		t.Discard(x)
		x = sum
	}
	sum := nn.Add(t, x, n.pos.Forward(t, n.positions(in)))
	t.Discard(x)
	out := n.norm.Forward(t, sum)
	t.Discard(sum)
	return nn.BaseDropout(t, out, n.c.Dropout.Hidden)
}

// positions returns the row of the position table of each row. RoBERTa counts
// from pad_token_id+1, and a padding token among the tokens stays on row
// pad_token_id without being counted; only rows that are all tokens can be told
// from padding, as in transformers.
func (n *network) positions(in *model.Rows) []int32 {
	if n.c.Offset == 0 {
		return in.Pos
	}
	out := make([]int32, len(in.Pos))
	for i, p := range in.Pos {
		out[i] = p + int32(n.c.Offset)
	}
	tokens := in.Batch.Tokens
	if len(tokens) != len(out) {
		return out
	}
	for _, s := range in.Seqs {
		pads := int32(0)
		for i := s.Start; i < s.End; i++ {
			out[i] -= pads
			if tokens[i] == int32(n.c.Padding) {
				out[i] = int32(n.c.Padding)
				pads++
			}
		}
	}
	return out
}
