package model

import "github.com/peftkit/peftkit/nn"

// Module is one place of the network that methods can attach to. Exactly one of
// the layer pointers is set.
type Module struct {
	Path      string // Hugging Face path: model.layers.3.self_attn.q_proj
	Linear    *nn.LinearLayer
	Embedding *nn.EmbeddingLayer
	Norm      *nn.NormLayer
	// Output marks the output embedding (lm_head), Head the layers of a task's head
	// (classifier, score), which are trained in full beside every method.
	Output, Head bool
}

// Kind names the kind of place for people: linear, embedding or norm.
func (m *Module) Kind() string {
	switch {
	case m.Linear != nil:
		return "linear"
	case m.Embedding != nil:
		return "embedding"
	}
	return "norm"
}

// Weight returns the module's weight.
func (m *Module) Weight() *nn.Weight {
	switch {
	case m.Linear != nil:
		return m.Linear.W
	case m.Embedding != nil:
		return m.Embedding.W
	}
	return m.Norm.W
}

// Bias returns the module's bias, nil when it has none. A constant that is added
// like one (final_logits_bias, a buffer in transformers) is none.
func (m *Module) Bias() *nn.Weight {
	switch {
	case m.Linear != nil && m.Output && m.Linear.Bias != nil && m.Linear.Bias.Name != m.Path+".bias":
		return nil
	case m.Linear != nil:
		return m.Linear.Bias
	case m.Norm != nil:
		return m.Norm.Bias
	}
	return nil
}

// SetWeight gives the module another weight of the same size. Modules that were
// tied to the old one keep it.
func (m *Module) SetWeight(w *nn.Weight) {
	switch {
	case m.Linear != nil:
		m.Linear.W = w
	case m.Embedding != nil:
		m.Embedding.W = w
	default:
		m.Norm.W = w
	}
}

// Untie gives a linear layer or embedding a weight of its own, so that training
// it leaves a module that shared the weight as it was.
func (m *Module) Untie() {
	w := m.Weight()
	if m.Norm != nil || w.Frozen == nil {
		return
	}
	m.SetWeight(&nn.Weight{Name: w.Name, Out: w.Out, In: w.In, Transposed: w.Transposed, Conv1D: w.Conv1D, Frozen: w.Frozen})
}

// Detach removes everything that methods attached to the module.
func (m *Module) Detach() {
	switch {
	case m.Linear != nil:
		m.Linear.Detach()
	case m.Embedding != nil:
		m.Embedding.Detach()
	default:
		m.Norm.Detach()
	}
}

// Stack names the two halves of a network.
type Stack string

// Decoder is also the only stack of a decoder-only model, Encoder that of an
// encoder-only one.
const (
	Encoder Stack = "encoder"
	Decoder Stack = "decoder"
)

// Attention is the place where one layer's queries meet keys and values. The
// projections are modules of their own; those of a fused layer (c_attn) are nil.
type Attention struct {
	*nn.AttentionLayer
	Stack Stack
	Layer int
	// Cross says that keys and values come from the encoder.
	Cross bool
	// Rotary says that queries and keys were rotated by their positions.
	Rotary bool
	// Q, K, V and O are the projections around it.
	Q, K, V, O *nn.LinearLayer
}

// SublayerKind tells what a sublayer computes.
type SublayerKind string

const (
	SelfAttention  SublayerKind = "self-attention"
	CrossAttention SublayerKind = "cross-attention"
	FeedForward    SublayerKind = "feed-forward"
)

// Sublayer is the place where the output of an attention or feed-forward block
// joins the residual stream: adapters sit there.
type Sublayer struct {
	*nn.SublayerLayer
	Kind  SublayerKind
	Stack Stack
	Layer int
	// Hidden is the number of features of the stream.
	Hidden int
}

// LayerPath is the path of the block of layers that contains the sublayer, such
// as model.layers.3 or bert.encoder.layer.3.
func (s *Sublayer) LayerPath() string { return s.SublayerLayer.LayerPath }

// Block is one layer of a decoder as a whole: what enters and what leaves it is the
// residual stream.
type Block struct {
	Path  string // model.layers.3
	Layer int

	enter []func(t *nn.Tape, x *nn.Var) *nn.Var
	leave []func(t *nn.Tape, x *nn.Var)
}

// OnEnter attaches a function that returns what the block reads in place of x, the
// first attached first. It may not use x after the forward pass of the block began.
func (b *Block) OnEnter(f func(t *nn.Tape, x *nn.Var) *nn.Var) { b.enter = append(b.enter, f) }

// OnLeave attaches a function that sees what the block gives.
func (b *Block) OnLeave(f func(t *nn.Tape, x *nn.Var)) { b.leave = append(b.leave, f) }

// Enter is called by a network with the rows that the block is about to read.
func (b *Block) Enter(t *nn.Tape, x *nn.Var) *nn.Var {
	for _, f := range b.enter {
		y := f(t, x)
		if y != x {
			t.Discard(x)
		}
		x = y
	}
	return x
}

// Leave is called by a network with the rows that the block gives.
func (b *Block) Leave(t *nn.Tape, x *nn.Var) {
	for _, f := range b.leave {
		f(t, x)
	}
}

// Detach removes all functions.
func (b *Block) Detach() { b.enter, b.leave = nil, nil }

// Release lets go of the input of the block early, unless a method at its end may
// read it.
func (s *Sublayer) Release(t *nn.Tape, h *nn.Var) {
	if !s.Hooked() {
		t.Discard(h)
	}
}
