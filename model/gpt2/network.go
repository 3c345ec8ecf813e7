package gpt2

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
)

type block struct {
	ln1, ln2        *nn.NormLayer
	qkv, out        *nn.LinearLayer
	up, down        *nn.LinearLayer
	attn            *model.Attention
	attnEnd, mlpEnd *model.Sublayer
	whole           *model.Block
}

type network struct {
	c      *config
	tokens *nn.EmbeddingLayer
	pos    *nn.EmbeddingLayer
	input  *model.Input
	blocks []block
	norm   *nn.NormLayer
	task   model.Task
}

// Build implements model.Family.
func (f family) Build(ck *model.Checkpoint, o model.Options) (*model.Model, error) {
	c, err := parseConfig(ck.Config)
	if err != nil {
		return nil, err
	}
	n := &network{c: c, task: o.Task}
	m := &model.Model{
		Checkpoint: ck, VocabSize: c.VocabSize, HiddenSize: c.Embd, Layers: c.Layers,
		MaxPositions: c.Positions, KVSize: c.Embd, TiedHead: c.TieWordEmbeddings, Dropout: c.dropout(o.Task), Run: n.run,
	}
	if err := n.build(m); err != nil {
		return nil, err
	}
	head := decoder.Head{
		Family: f.Name(), Embed: n.tokens.W, LM: headPath, Tied: c.TieWordEmbeddings, Hidden: c.Embd,
		Sigma: c.InitializerRange, Sequence: scorePath, Token: classifierPath, TokenBias: true,
	}
	return m, head.Build(m, o)
}

// build makes a layer of each module and wires it to its place.
func (n *network) build(m *model.Model) error {
	n.blocks = make([]block, n.c.Layers)
	place := map[string]any{embedPath: &n.tokens, positionPath: &n.pos, normPath: &n.norm}
	for l := range n.blocks {
		b, p := &n.blocks[l], layerPrefix(l)
		place[p+"ln_1"], place[p+"ln_2"] = &b.ln1, &b.ln2
		place[p+"attn.c_attn"], place[p+"attn.c_proj"] = &b.qkv, &b.out
		place[p+"mlp.c_fc"], place[p+"mlp.c_proj"] = &b.up, &b.down
	}
	for _, mod := range n.c.modules() {
		if mod.hf == headPath {
			continue // the task decides
		}
		load := m.LoadWeight
		if mod.conv {
			load = m.LoadConv1D
		}
		w, err := load(mod.hf + ".weight")
		if err != nil {
			return err
		}
		var bias *nn.Weight
		if mod.bias {
			if bias, err = m.LoadWeight(mod.hf + ".bias"); err != nil {
				return err
			}
		}
		if w == nil || mod.bias && bias == nil {
			return fmt.Errorf("%s is missing: %w", mod.hf, model.ErrMismatch)
		}
		entry := &model.Module{Path: mod.hf}
		switch dst := place[mod.hf].(type) {
		case **nn.EmbeddingLayer:
			entry.Embedding = &nn.EmbeddingLayer{Path: mod.hf, W: w}
			*dst = entry.Embedding
		case **nn.NormLayer:
			entry.Norm = &nn.NormLayer{Path: mod.hf, W: w, Bias: bias, Center: true, Eps: float32(n.c.Eps)}
			*dst = entry.Norm
		case **nn.LinearLayer:
			entry.Linear = &nn.LinearLayer{Path: mod.hf, W: w, Bias: bias}
			*dst = entry.Linear
		}
		m.Modules = append(m.Modules, entry)
	}
	n.places(m)
	return nil
}

// places lists the places without weights.
func (n *network) places(m *model.Model) {
	n.input = &model.Input{Stack: model.Decoder, Embedding: n.tokens}
	m.Inputs = []*model.Input{n.input}
	for l := range n.blocks {
		b := &n.blocks[l]
		layer := layerPrefix(l)
		b.attn = &model.Attention{
			AttentionLayer: &nn.AttentionLayer{Path: layer + "attn", Heads: n.c.Heads, KVHeads: n.c.Heads, HeadDim: n.c.Embd / n.c.Heads},
			Stack:          model.Decoder, Layer: l, O: b.out,
		}
		sub := func(path string, kind model.SublayerKind) *model.Sublayer {
			s := &model.Sublayer{
				SublayerLayer: &nn.SublayerLayer{Path: layer + path, LayerPath: layer[:len(layer)-1]},
				Kind:          kind, Stack: model.Decoder, Layer: l, Hidden: n.c.Embd,
			}
			m.Sublayers = append(m.Sublayers, s)
			return s
		}
		b.attnEnd, b.mlpEnd = sub("attn", model.SelfAttention), sub("mlp", model.FeedForward)
		m.Attentions = append(m.Attentions, b.attn)
		b.whole = &model.Block{Path: layer[:len(layer)-1], Layer: l}
		m.Blocks = append(m.Blocks, b.whole)
	}
}

// run computes the decoder: [rows, n_embd] after the final norm, of the last rows
// of the sequences for a sequence task.
func (n *network) run(t *nn.Tape, b *model.Batch) *model.States {
	c := n.c
	h := c.Embd
	in := n.input.Forward(t, b)
	spec := nn.AttnSpec{Seqs: in.Seqs, Causal: true, Dropout: c.AttnDropout}
	x := nn.BaseDropout(t, nn.Add(t, in.X, n.pos.Forward(t, in.Pos)), c.EmbdDropout)
	for l := range n.blocks {
		blk := &n.blocks[l]
		spec.Scale = c.attnScale(l)
		x = blk.whole.Enter(t, x)
		y := blk.ln1.Forward(t, x)
		all := blk.qkv.Forward(t, y)
		blk.attnEnd.Release(t, y)
		q, k, v := nn.Columns(t, all, 0, h), nn.Columns(t, all, h, 2*h), nn.Columns(t, all, 2*h, 3*h)
		t.Discard(all)
		if b.Cache != nil {
			spec.PastK, spec.PastV = b.Cache.Past(l)
			b.Cache.Append(l, k, v)
		}
		a := blk.attn.Forward(t, q, k, v, spec)
		next := blk.attnEnd.Forward(t, x, y, nn.BaseDropout(t, blk.out.Forward(t, a), c.ResidDropout))
		t.Discard(x, q, k, v, a, y)
		x = next

		y = blk.ln2.Forward(t, x)
		up := blk.up.Forward(t, y)
		blk.mlpEnd.Release(t, y)
		a = nn.Apply(t, up, c.act)
		next = blk.mlpEnd.Forward(t, x, y, nn.BaseDropout(t, blk.down.Forward(t, a), c.ResidDropout))
		t.Discard(x, up, a, y)
		x = next
		blk.whole.Leave(t, x)
	}
	if b.Cache != nil {
		b.Cache.Advance(in.X.Rows)
	}
	if n.task == model.SequenceClassification {
		return &model.States{X: n.norm.Forward(t, decoder.LastRows(t, x, in, c.PadTokenID))}
	}
	x = n.norm.Forward(t, x)
	if n.task == model.TokenClassification {
		x = nn.BaseDropout(t, x, c.tokenDropout())
	}
	return in.States(x)
}

func (c *config) attnScale(layer int) float32 {
	s := 1.0
	if c.ScaleAttn {
		s = 1 / math.Sqrt(float64(c.Embd/c.Heads))
	}
	if c.ScaleByLayer {
		s /= float64(layer + 1)
	}
	return float32(s)
}
