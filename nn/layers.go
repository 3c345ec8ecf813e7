package nn

// Layers are the places that PEFT methods attach to. Each has its Hugging Face
// path and runs its frozen operation, plus what was attached.

// LinearLayer is a matrix product with an optional bias.
type LinearLayer struct {
	// Path is the module's name in Hugging Face's tree ("model.layers.0.mlp.up_proj").
	Path string
	W    *Weight
	Bias *Weight
	// Cap, if positive, limits the outputs to Cap*tanh(y/Cap): the logits of Gemma 2.
	Cap float32

	low   []func(t *Tape, x *Var) LowRank
	views []WeightView
	wraps []func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var
}

// Forward returns the layer's output for x, [rows, in] -> [rows, out], with all
// that is attached.
func (l *LinearLayer) Forward(t *Tape, x *Var) *Var {
	y := l.call(t, x, len(l.wraps))
	if l.Cap > 0 {
		y = SoftCap(t, y, l.Cap)
	}
	return y
}

func (l *LinearLayer) call(t *Tape, x *Var, depth int) *Var {
	if depth == 0 {
		return l.product(t, x)
	}
	return l.wraps[depth-1](t, x, func(t *Tape, x *Var) *Var { return l.call(t, x, depth-1) })
}

func (l *LinearLayer) additions(t *Tape, x *Var) []LowRank {
	if len(l.low) == 0 {
		return nil
	}
	terms := make([]LowRank, len(l.low))
	for i, f := range l.low {
		terms[i] = f(t, x)
	}
	return terms
}

// AddLowRank attaches an addition that is fused into the layer's product. f is
// called in every forward pass with the layer's input; a LowRank with a nil B
// adds nothing. Any number may be attached; all are summed.
//
// What was wrapped around the layer before does not reach the addition, which is
// then a product of its own: methods act in the order in which they were attached,
// as they do when their changes are merged into the weight one after the other.
func (l *LinearLayer) AddLowRank(f func(t *Tape, x *Var) LowRank) {
	if len(l.wraps) == 0 {
		l.low = append(l.low, f)
		return
	}
	l.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var {
		y, term := next(t, x), f(t, x)
		if term.B == nil {
			return y
		}
		z := LinearOp(t, x, nil, nil, term)
		out := Add(t, y, z)
		t.Discard(y)
		return out
	})
}

// WeightView stands in for a layer's weight in its product.
type WeightView struct {
	// Weight returns a weight of the same size as w: one that changes elements as
	// they are decoded, which costs neither memory nor a second product.
	Weight func(w *Weight) *Weight
	// Change, if not nil, may give the same change for x as an addition, which then
	// stands in for Weight and After; one without B stands in for nothing. Only the last
	// view of a layer is asked.
	Change func(t *Tape, x *Var, w *Weight) LowRank
	// After gets the product's input and output, to record what the change's
	// parameters have for a gradient; it returns the output to go on with.
	After func(t *Tape, x, y *Var) *Var
}

// View attaches a stand-in for the layer's weight; each one sees that of the one
// before.
func (l *LinearLayer) View(v WeightView) { l.views = append(l.views, v) }

// product is the layer's own operation, without what is wrapped around it.
func (l *LinearLayer) product(t *Tape, x *Var) *Var {
	w, views, terms := l.W, l.views, l.additions(t, x)
	for i, v := range views {
		if v.Change != nil && i == len(views)-1 {
			if c := v.Change(t, x, w); c.B != nil {
				terms, views = append(terms, c), views[:i]
				break
			}
		}
		w = v.Weight(w)
	}
	y := LinearOp(t, x, w, l.Bias, terms...)
	for _, v := range views {
		y = v.After(t, x, y)
	}
	return y
}

// Wrap attaches a function around the layer: it gets the input and next, which
// runs the layer with all that was attached before. The last one added is the
// outermost.
func (l *LinearLayer) Wrap(f func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var) {
	l.wraps = append(l.wraps, f)
}

// Hooked reports whether anything is attached.
func (l *LinearLayer) Hooked() bool { return len(l.low)+len(l.views)+len(l.wraps) > 0 }

// Single reports whether one thing alone is attached.
func (l *LinearLayer) Single() bool { return len(l.low)+len(l.views)+len(l.wraps) == 1 }

// Detach removes all that is attached.
func (l *LinearLayer) Detach() { l.low, l.views, l.wraps = nil, nil, nil }

// EmbeddingLayer looks up rows of a matrix.
type EmbeddingLayer struct {
	Path string
	W    *Weight
	// Scale, if not 0, multiplies the rows that are looked up, with what is attached,
	// as HF PEFT does: the embeddings of Gemma, BART and Marian.
	Scale float32
	// Padding, if not nil, is a row that a look-up gives no gradient, as padding_idx of
	// PyTorch's Embedding; a negative one counts from the end.
	Padding *int32

	wraps []func(t *Tape, ids []int32, next func(*Tape, []int32) *Var) *Var
}

// Forward returns [len(ids), W.In]. An id outside of the matrix panics.
func (l *EmbeddingLayer) Forward(t *Tape, ids []int32) *Var {
	y := l.call(t, ids, len(l.wraps))
	if l.Scale == 0 || l.Scale == 1 {
		return y
	}
	out := Scale(t, y, l.Scale)
	t.Discard(y)
	return out
}

func (l *EmbeddingLayer) call(t *Tape, ids []int32, depth int) *Var {
	if depth == 0 {
		return Embed(t, l.W, ids, l.PaddingRow())
	}
	return l.wraps[depth-1](t, ids, func(t *Tape, ids []int32) *Var { return l.call(t, ids, depth-1) })
}

// PaddingRow is the number of the row that Padding means, -1 without one.
func (l *EmbeddingLayer) PaddingRow() int32 {
	switch {
	case l.Padding == nil:
		return -1
	case *l.Padding < 0:
		return *l.Padding + int32(l.W.Out)
	}
	return *l.Padding
}

// Wrap attaches a function around the look-up; the last one added is the outermost.
func (l *EmbeddingLayer) Wrap(f func(t *Tape, ids []int32, next func(*Tape, []int32) *Var) *Var) {
	l.wraps = append(l.wraps, f)
}

// Hooked reports whether anything is attached.
func (l *EmbeddingLayer) Hooked() bool { return len(l.wraps) > 0 }

// Detach removes all that is attached.
func (l *EmbeddingLayer) Detach() { l.wraps = nil }

// NormLayer is a root-mean-square norm, or with Center a layer norm.
type NormLayer struct {
	Path string
	W    *Weight
	Eps  float32
	// Center subtracts the mean and adds Bias, which may be nil: LayerNorm.
	Center bool
	Bias   *Weight
	// Plus1 multiplies by 1+W instead of W: Gemma's norms, whose weights lie around 0.
	Plus1 bool

	wraps []func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var
}

// Forward returns the normed rows of x.
func (l *NormLayer) Forward(t *Tape, x *Var) *Var { return l.call(t, x, len(l.wraps)) }

func (l *NormLayer) call(t *Tape, x *Var, depth int) *Var {
	if depth == 0 {
		if l.Center {
			return LayerNorm(t, x, l.W, l.Bias, l.Eps)
		}
		if l.Plus1 {
			return RMSNormPlus1(t, x, l.W, l.Eps)
		}
		return RMSNorm(t, x, l.W, l.Eps)
	}
	return l.wraps[depth-1](t, x, func(t *Tape, x *Var) *Var { return l.call(t, x, depth-1) })
}

// With returns the same norm with other weights and nothing attached.
func (l *NormLayer) With(w, bias *Weight) *NormLayer {
	n := *l
	n.W, n.Bias, n.wraps = w, bias, nil
	return &n
}

// Wrap attaches a function around the norm; the last one added is the outermost.
func (l *NormLayer) Wrap(f func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var) {
	l.wraps = append(l.wraps, f)
}

// Hooked reports whether anything is attached.
func (l *NormLayer) Hooked() bool { return len(l.wraps) > 0 }

// Detach removes all that is attached.
func (l *NormLayer) Detach() { l.wraps = nil }

// AttentionLayer is the meeting of queries with keys and values, between the
// projections.
type AttentionLayer struct {
	// Path is the module that holds the projections ("model.layers.0.self_attn").
	Path string
	// Heads query heads share KVHeads key and value heads of HeadDim features.
	Heads, KVHeads, HeadDim int

	wraps []AttentionWrap
}

// AttentionWrap is a function around an attention: next runs it with all that was
// attached before.
type AttentionWrap func(t *Tape, q, k, v *Var, s AttnSpec, next func(t *Tape, q, k, v *Var, s AttnSpec) *Var) *Var

// Forward returns the attention's output, [rows, Heads*HeadDim]. The heads of s
// are set by the layer.
func (l *AttentionLayer) Forward(t *Tape, q, k, v *Var, s AttnSpec) *Var {
	s.Heads, s.KVHeads, s.HeadDim = l.Heads, l.KVHeads, l.HeadDim
	return l.call(t, q, k, v, s, len(l.wraps))
}

func (l *AttentionLayer) call(t *Tape, q, k, v *Var, s AttnSpec, depth int) *Var {
	if depth == 0 {
		return Attention(t, q, k, v, s)
	}
	return l.wraps[depth-1](t, q, k, v, s, func(t *Tape, q, k, v *Var, s AttnSpec) *Var {
		return l.call(t, q, k, v, s, depth-1)
	})
}

// Wrap attaches a function around the attention; the last one added is the outermost.
func (l *AttentionLayer) Wrap(f AttentionWrap) { l.wraps = append(l.wraps, f) }

// Hooked reports whether anything is attached.
func (l *AttentionLayer) Hooked() bool { return len(l.wraps) > 0 }

// Detach removes all that is attached.
func (l *AttentionLayer) Detach() { l.wraps = nil }

// SublayerLayer joins the output of an attention or feed-forward block to the
// residual stream, and norms the sum where the network does so (post-norm).
type SublayerLayer struct {
	// Path is the module whose output joins the stream ("model.layers.0.self_attn",
	// "bert.encoder.layer.0.output"), LayerPath the layer that holds it.
	Path, LayerPath string
	// Norm is applied to the sum; nil in networks that norm the input instead.
	Norm *NormLayer

	wraps []SublayerWrap
}

// Stream is what a sublayer knows beside its output.
type Stream struct {
	// Residual is the stream before the sublayer, Input what the sublayer's block
	// read: the normed stream, or the stream itself in a post-norm network.
	Residual, Input *Var
	// Norm is the norm of the sum, nil when there is none.
	Norm *NormLayer
}

// SublayerWrap is a function around the end of a sublayer: it gets the block's
// output y and next, which adds the residual stream and norms the sum, with all
// that was attached before. next may use up y.
type SublayerWrap func(t *Tape, s Stream, y *Var, next func(t *Tape, y *Var) *Var) *Var

// Forward returns Norm(residual + y). It may use up y.
func (l *SublayerLayer) Forward(t *Tape, residual, input, y *Var) *Var {
	return l.call(t, Stream{residual, input, l.Norm}, y, len(l.wraps))
}

func (l *SublayerLayer) call(t *Tape, s Stream, y *Var, depth int) *Var {
	if depth == 0 {
		y = Add(t, s.Residual, y)
		if s.Norm == nil {
			return y
		}
		out := s.Norm.Forward(t, y)
		t.Discard(y)
		return out
	}
	return l.wraps[depth-1](t, s, y, func(t *Tape, y *Var) *Var { return l.call(t, s, y, depth-1) })
}

// Wrap attaches a function around the end of the sublayer; the last one added is
// the outermost.
func (l *SublayerLayer) Wrap(f SublayerWrap) { l.wraps = append(l.wraps, f) }

// Hooked reports whether anything is attached.
func (l *SublayerLayer) Hooked() bool { return len(l.wraps) > 0 }

// Detach removes all that is attached.
func (l *SublayerLayer) Detach() { l.wraps = nil }
