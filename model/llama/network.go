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
}

type network struct {
	c      *Config
	embed  *nn.EmbeddingLayer
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
	return nil
}

func modulePrefix(layer int) string {
	return "model.layers." + strconv.Itoa(layer) + "."
}

// hidden runs the decoder: [len(b.Tokens), hidden_size] after the final norm.
func (n *network) hidden(t *nn.Tape, b *model.Batch) *nn.Var {
	c := n.c
	spec := nn.AttnSpec{
		Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim,
		Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Seqs: b.Seqs, Causal: true,
	}
	x := n.embed.Forward(t, b.Tokens)
	for l := range n.blocks {
		blk := &n.blocks[l]
		h := blk.inputNorm.Forward(t, x)
		q, k, v := blk.q.Forward(t, h), blk.k.Forward(t, h), blk.v.Forward(t, h)
		t.Discard(h)
		nn.RoPE(t, q, c.HeadDim, b.Pos, n.rope)
		nn.RoPE(t, k, c.HeadDim, b.Pos, n.rope)
		if b.Cache != nil {
			spec.PastK, spec.PastV = b.Cache.Past(l)
			b.Cache.Append(l, k, v)
		}
		a := nn.Attention(t, q, k, v, spec)
		next := nn.Add(t, x, blk.o.Forward(t, a))
		discard(t, x, q, k, v, a)
		x = next

		h = blk.postNorm.Forward(t, x)
		gate, up := blk.gate.Forward(t, h), blk.up.Forward(t, h)
		t.Discard(h)
		a = nn.SwiGLU(t, gate, up)
		next = nn.Add(t, x, blk.down.Forward(t, a))
		discard(t, x, gate, up, a)
		x = next
	}
	if b.Cache != nil {
		b.Cache.Advance(len(b.Tokens))
	}
	return n.norm.Forward(t, x)
}

// discard says that the rest of the forward pass reads none of these: without
// training their memory serves the next layer.
func discard(t *nn.Tape, vars ...*nn.Var) {
	for _, v := range vars {
		t.Discard(v)
	}
}
