package llama

import (
	"math"
	"strconv"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

type block struct {
	inputNorm, postNorm *nn.NormLayer
	q, k, v, o          *nn.LinearLayer
	gate, up, down      *nn.LinearLayer
	attn                *model.Attention
	attnOut, mlpOut     *model.Sublayer
}

type network struct {
	c      *Config
	embed  *nn.EmbeddingLayer
	input  *model.Input
	blocks []block
	norm   *nn.NormLayer
	rope   *nn.RoPETable
}

// build makes a layer of each module and wires it to its place.
func (n *network) build(m *model.Model) error {
	n.blocks = make([]block, n.c.NumHiddenLayers)
	place := map[string]any{} // path -> where the layer's pointer goes
	place["model.embed_tokens"], place["model.norm"], place["lm_head"] = &n.embed, &n.norm, &m.Head
	for l := range n.blocks {
		b := &n.blocks[l]
		p := modulePrefix(l)
		for name, dst := range map[string]any{
			"self_attn.q_proj": &b.q, "self_attn.k_proj": &b.k, "self_attn.v_proj": &b.v, "self_attn.o_proj": &b.o,
			"mlp.gate_proj": &b.gate, "mlp.up_proj": &b.up, "mlp.down_proj": &b.down,
			"input_layernorm": &b.inputNorm, "post_attention_layernorm": &b.postNorm,
		} {
			place[p+name] = dst
		}
	}
	for _, mod := range modules(n.c) {
		w, err := m.LoadWeight(mod.hf + ".weight")
		if err != nil {
			return err
		}
		if w == nil { // the tied head
			w = n.embed.W
		}
		var bias *nn.Weight
		if mod.bias {
			if bias, err = m.LoadWeight(mod.hf + ".bias"); err != nil {
				return err
			}
		}
		entry := &model.Module{Path: mod.hf, Output: mod.hf == "lm_head"}
		switch dst := place[mod.hf].(type) {
		case **nn.EmbeddingLayer:
			entry.Embedding = &nn.EmbeddingLayer{Path: mod.hf, W: w}
			*dst = entry.Embedding
		case **nn.NormLayer:
			entry.Norm = &nn.NormLayer{Path: mod.hf, W: w, Eps: float32(n.c.RMSNormEps)}
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
	n.input = &model.Input{Stack: model.Decoder, Embedding: n.embed}
	m.Inputs = []*model.Input{n.input}
	for l := range n.blocks {
		b := &n.blocks[l]
		layer := modulePrefix(l)
		b.attn = &model.Attention{
			AttentionLayer: &nn.AttentionLayer{Path: layer + "self_attn", Heads: n.c.NumAttentionHeads, KVHeads: n.c.NumKeyValueHeads, HeadDim: n.c.HeadDim},
			Stack:          model.Decoder, Layer: l, Rotary: true, Q: b.q, K: b.k, V: b.v, O: b.o,
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
	}
}

func modulePrefix(layer int) string {
	return "model.layers." + strconv.Itoa(layer) + "."
}

// run computes the decoder: [rows, hidden_size] after the final norm.
func (n *network) run(t *nn.Tape, b *model.Batch) *model.States {
	c := n.c
	in := n.input.Forward(t, b)
	spec := nn.AttnSpec{Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Seqs: in.Seqs, Causal: true}
	x := in.X
	for l := range n.blocks {
		blk := &n.blocks[l]
		h := blk.inputNorm.Forward(t, x)
		q, k, v := blk.q.Forward(t, h), blk.k.Forward(t, h), blk.v.Forward(t, h)
		release(t, blk.attnOut, h)
		nn.RoPE(t, q, c.HeadDim, in.Pos, n.rope)
		nn.RoPE(t, k, c.HeadDim, in.Pos, n.rope)
		if b.Cache != nil {
			spec.PastK, spec.PastV = b.Cache.Past(l)
			b.Cache.Append(l, k, v)
		}
		a := blk.attn.Forward(t, q, k, v, spec)
		next := blk.attnOut.Forward(t, x, h, blk.o.Forward(t, a))
		discard(t, x, q, k, v, a, h)
		x = next

		h = blk.postNorm.Forward(t, x)
		gate, up := blk.gate.Forward(t, h), blk.up.Forward(t, h)
		release(t, blk.mlpOut, h)
		a = nn.SwiGLU(t, gate, up)
		next = blk.mlpOut.Forward(t, x, h, blk.down.Forward(t, a))
		discard(t, x, gate, up, a, h)
		x = next
	}
	if b.Cache != nil {
		b.Cache.Advance(in.X.Rows)
	}
	return in.States(n.norm.Forward(t, x))
}

// release lets go of the input of a sublayer early, unless a method at its end
// may read it.
func release(t *nn.Tape, s *model.Sublayer, h *nn.Var) {
	if !s.Hooked() {
		t.Discard(h)
	}
}

// discard says that the rest of the forward pass reads none of these: without
// training their memory serves the next layer.
func discard(t *nn.Tape, vars ...*nn.Var) {
	for _, v := range vars {
		t.Discard(v)
	}
}
