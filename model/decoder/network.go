package decoder

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

type block struct {
	inputNorm, midNorm       *nn.NormLayer // before attention, before the feed-forward block
	attnPostNorm, ffPostNorm *nn.NormLayer // after them, nil but for Gemma 2 and 3
	qNorm, kNorm             *nn.NormLayer // nil but for Qwen 3 and Gemma 3
	q, k, v, qkv, o          *nn.LinearLayer
	gate, up, gateUp, down   *nn.LinearLayer
	attn                     *model.Attention
	attnOut, mlpOut          *model.Sublayer
	whole                    *model.Block
	rope                     *ropeTables // nil for layers that do not rotate
	window                   int
}

type network struct {
	c      *Config
	embed  *nn.EmbeddingLayer
	input  *model.Input
	blocks []block
	norm   *nn.NormLayer
	task   model.Task
}

// Build implements model.Family.
func (f *Family) Build(ck *model.Checkpoint, o model.Options) (*model.Model, error) {
	c, err := f.parse(ck.Config)
	if err != nil {
		return nil, err
	}
	n := &network{c: c, task: o.Task}
	m := &model.Model{
		Checkpoint: ck, VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, Layers: c.NumHiddenLayers,
		MaxPositions: c.positions(), KVSize: c.kvHeads() * c.headDim(), Dropout: c.dropout(o.Task),
		TiedHead: c.TieWordEmbeddings, Run: n.run,
	}
	if err := n.build(m); err != nil {
		return nil, err
	}
	head := Head{
		Family: f.Name(), Embed: n.embed.W, LM: headPath, Cap: float32(c.Variant.HeadCap), Tied: c.TieWordEmbeddings,
		Hidden: c.HiddenSize, Sigma: c.InitializerRange, Sequence: scorePath, Token: scorePath, TokenBias: true,
	}
	return m, head.Build(m, o)
}

// build makes a layer of each module and wires it to its place.
func (n *network) build(m *model.Model) error {
	n.blocks = make([]block, n.c.NumHiddenLayers)
	place := map[string]any{embedPath: &n.embed, normPath: &n.norm} // path -> where the layer's pointer goes
	for l := range n.blocks {
		b := &n.blocks[l]
		p := layerPrefix(l)
		for name, dst := range map[string]any{
			"self_attn.q_proj": &b.q, "self_attn.k_proj": &b.k, "self_attn.v_proj": &b.v, "self_attn.qkv_proj": &b.qkv, "self_attn.o_proj": &b.o,
			"self_attn.q_norm": &b.qNorm, "self_attn.k_norm": &b.kNorm,
			"mlp.gate_proj": &b.gate, "mlp.up_proj": &b.up, "mlp.gate_up_proj": &b.gateUp, "mlp.down_proj": &b.down,
			"input_layernorm": &b.inputNorm, "post_attention_layernorm": &b.midNorm,
		} {
			place[p+name] = dst
		}
		if n.c.Variant.PostNorms {
			place[p+"post_attention_layernorm"] = &b.attnPostNorm
			place[p+"pre_feedforward_layernorm"] = &b.midNorm
			place[p+"post_feedforward_layernorm"] = &b.ffPostNorm
		}
	}
	for _, mod := range n.c.modules() {
		if mod.hf == headPath {
			continue // the task decides
		}
		w, err := m.LoadWeight(mod.hf + ".weight")
		if err != nil {
			return err
		}
		if w == nil {
			return fmt.Errorf("%s.weight is missing: %w", mod.hf, model.ErrMismatch)
		}
		var bias *nn.Weight
		if mod.bias {
			if bias, err = m.LoadWeight(mod.hf + ".bias"); err != nil {
				return err
			}
		}
		entry := &model.Module{Path: mod.hf}
		switch dst := place[mod.hf].(type) {
		case **nn.EmbeddingLayer:
			entry.Embedding = &nn.EmbeddingLayer{Path: mod.hf, W: w, Padding: n.c.PadTokenID}
			if n.c.Variant.ScaledEmbedding {
				entry.Embedding.Scale = float32(math.Sqrt(float64(n.c.HiddenSize)))
			}
			*dst = entry.Embedding
		case **nn.NormLayer:
			entry.Norm = &nn.NormLayer{Path: mod.hf, W: w, Eps: float32(n.c.RMSNormEps), Plus1: n.c.Variant.Plus1}
			*dst = entry.Norm
		case **nn.LinearLayer:
			entry.Linear = &nn.LinearLayer{Path: mod.hf, W: w, Bias: bias}
			*dst = entry.Linear
		}
		m.Modules = append(m.Modules, entry)
	}
	return n.places(m)
}

// places lists the places without weights and gives each layer its rotary table
// and window.
func (n *network) places(m *model.Model) error {
	tables, err := n.c.tables()
	if err != nil {
		return err
	}
	n.input = &model.Input{Stack: model.Decoder, Embedding: n.embed}
	m.Inputs = []*model.Input{n.input}
	for l := range n.blocks {
		b := &n.blocks[l]
		if n.c.Variant.Windows != nil {
			b.window = n.c.Variant.Windows[l]
		}
		b.rope = tables[0]
		if n.c.Variant.LocalRope && b.window > 0 {
			b.rope = tables[1]
		}
		if n.c.Variant.NoRope != nil && n.c.Variant.NoRope[l] {
			b.rope = nil
		}
		layer := layerPrefix(l)
		b.attn = &model.Attention{
			AttentionLayer: &nn.AttentionLayer{Path: layer + "self_attn", Heads: n.c.NumAttentionHeads, KVHeads: n.c.kvHeads(), HeadDim: n.c.headDim()},
			Stack:          model.Decoder, Layer: l, Rotary: b.rope != nil, Q: b.q, K: b.k, V: b.v, O: b.o,
		}
		sub := func(path string, kind model.SublayerKind) *model.Sublayer {
			s := &model.Sublayer{
				SublayerLayer: &nn.SublayerLayer{Path: layer + path, LayerPath: layer[:len(layer)-1]},
				Kind:          kind, Stack: model.Decoder, Layer: l, Hidden: n.c.HiddenSize,
			}
			m.Sublayers = append(m.Sublayers, s)
			return s
		}
		b.attnOut, b.mlpOut = sub("self_attn", model.SelfAttention), sub("mlp", model.FeedForward)
		m.Attentions = append(m.Attentions, b.attn)
		b.whole = &model.Block{Path: layer[:len(layer)-1], Layer: l}
		m.Blocks = append(m.Blocks, b.whole)
	}
	return nil
}

// run computes the decoder: [rows, hidden_size] after the final norm, of the
// last rows of the sequences for a sequence task.
func (n *network) run(t *nn.Tape, b *model.Batch) *model.States {
	c := n.c
	in := n.input.Forward(t, b)
	spec := nn.AttnSpec{Scale: float32(1 / math.Sqrt(float64(c.headDim()))), Seqs: in.Seqs, Causal: true, SoftCap: float32(c.Variant.AttnCap), Dropout: c.AttentionDropout}
	if c.Variant.AttnScale != 0 {
		spec.Scale = float32(c.Variant.AttnScale)
	}
	last := b.Last
	for _, p := range in.Pos {
		last = max(last, p)
	}
	x := in.X
	for l := range n.blocks {
		blk := &n.blocks[l]
		x = blk.whole.Enter(t, x)
		h := blk.inputNorm.Forward(t, x)
		q, k, v := blk.project(t, h, c)
		blk.attnOut.Release(t, h)
		if blk.rope != nil {
			table := blk.rope.at(last)
			nn.RoPE(t, q, c.headDim(), in.Pos, table)
			nn.RoPE(t, k, c.headDim(), in.Pos, table)
		}
		own, keys, values := spec, k, v
		own.Window = blk.window
		if b.Cache != nil {
			keys, values = b.Cache.Extend(l, k, v, &own)
		}
		a := blk.attn.Forward(t, q, keys, values, own)
		y := nn.BaseDropout(t, postNorm(t, blk.attnPostNorm, blk.o.Forward(t, a)), c.Variant.ResidDropout)
		next := blk.attnOut.Forward(t, x, h, y)
		t.Discard(x, q, k, v, a, h)
		x = next

		h = blk.midNorm.Forward(t, x)
		gate, up := blk.expand(t, h, c.IntermediateSize)
		blk.mlpOut.Release(t, h)
		a = nn.Gated(t, c.act, gate, up)
		y = nn.BaseDropout(t, postNorm(t, blk.ffPostNorm, blk.down.Forward(t, a)), c.Variant.ResidDropout)
		next = blk.mlpOut.Forward(t, x, h, y)
		t.Discard(x, gate, up, a, h)
		x = next
		blk.whole.Leave(t, x)
	}
	if b.Cache != nil {
		b.Cache.Advance(in.X.Rows)
	}
	if n.task == model.SequenceClassification {
		return &model.States{X: n.norm.Forward(t, LastRows(t, x, in, c.PadTokenID))}
	}
	x = n.norm.Forward(t, x)
	if n.task == model.TokenClassification {
		x = nn.BaseDropout(t, x, c.tokenDropout())
	}
	return in.States(x)
}

// project returns queries, keys and values, normed where the family does so.
func (b *block) project(t *nn.Tape, h *nn.Var, c *Config) (q, k, v *nn.Var) {
	if b.qkv != nil {
		all := b.qkv.Forward(t, h)
		nq, nkv := c.NumAttentionHeads*c.headDim(), c.kvHeads()*c.headDim()
		q, k, v = nn.Columns(t, all, 0, nq), nn.Columns(t, all, nq, nq+nkv), nn.Columns(t, all, nq+nkv, nq+2*nkv)
		t.Discard(all)
	} else {
		q, k, v = b.q.Forward(t, h), b.k.Forward(t, h), b.v.Forward(t, h)
	}
	if b.qNorm != nil {
		rawQ, rawK := q, k
		q, k = b.qNorm.Forward(t, q), b.kNorm.Forward(t, k)
		t.Discard(rawQ, rawK)
	}
	return q, k, v
}

// expand returns the two halves of the gated feed-forward layer.
func (b *block) expand(t *nn.Tape, h *nn.Var, ff int) (gate, up *nn.Var) {
	if b.gateUp == nil {
		return b.gate.Forward(t, h), b.up.Forward(t, h)
	}
	all := b.gateUp.Forward(t, h)
	gate, up = nn.Columns(t, all, 0, ff), nn.Columns(t, all, ff, 2*ff)
	t.Discard(all)
	return gate, up
}

func postNorm(t *nn.Tape, norm *nn.NormLayer, y *nn.Var) *nn.Var {
	if norm == nil {
		return y
	}
	out := norm.Forward(t, y)
	t.Discard(y)
	return out
}
