package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// LowRank is an addition Scale * (X Aᵀ) Bᵀ to the output of a linear layer,
// fused into its product.
type LowRank struct {
	// X is the input of the addition, nil for the layer's own. If it can be
	// recomputed (dropout) its data is dropped after the product.
	X *Var
	// A is [r, in]; nil means that X already is the [rows, r] left factor. If that is
	// the layer's own input, B is a change of the whole weight: it is added to the
	// weight as both are packed and costs no product of its own.
	A *Var
	// B is [out, r]; nil means no addition.
	B *Var
	// Scale multiplies the addition.
	Scale float32
	// Grad, if not nil, stands for the gradient of a B that is computed from other
	// parameters: it gets rows r0 to r1 of the output's gradient, without Scale, and
	// adds to the gradients of those. Reads lists the variables whose Mat it reads.
	Grad  func(dy kernels.Mat, r0, r1 int)
	Reads []*Var
}

// LinearOp returns x·Wᵀ + bias + the low-rank additions as [x.Rows, out], in one
// product. w may be nil (only the additions), and bias may be nil.
//
// Backward reads x only for the gradient of a trainable w or of an A; a frozen w
// gets none. The gradient of x, dy·W and all dz·A, is one product too.
func LinearOp(t *Tape, x *Var, w *Weight, bias *Weight, terms ...LowRank) *Var {
	p := newProduct(t, x, w, bias, terms)
	out := t.New(x.Rows, p.out)
	out.Needs = p.needs
	p.forward(out.Mat(), 0, x.Rows)
	t.record(out, func() {
		g := p.grads()
		p.backward(g, out.gradMat(), 0, x.Rows)
	}, p.saved()...)
	p.done()
	return out
}

// product is one call of LinearOp, or the head of CrossEntropy, which runs it on
// chunks of rows.
type product struct {
	t     *Tape
	x     *Var
	w     *Weight
	bias  *Weight
	low   []lowTerm
	out   int
	needs bool
}

type lowTerm struct {
	x, a, b *Var
	z       *Var // x·Aᵀ, or x itself
	scale   float32
	own     bool // x is the layer's input
	joined  bool // b is added to the weight
	needsZ  bool // the gradient of z is wanted
	grad    func(dy kernels.Mat, r0, r1 int)
	reads   []*Var
}

func newProduct(t *Tape, x *Var, w, bias *Weight, terms []LowRank) *product {
	p := &product{t: t, x: x, w: w, bias: bias, needs: x.Needs && w != nil}
	if w != nil {
		if w.In != x.Cols {
			panic(fmt.Sprintf("nn: weight %s takes %d inputs, got %d", w.Name, w.In, x.Cols))
		}
		p.out = w.Out
		p.needs = p.needs || w.trainable() != nil
	}
	p.needs = p.needs || bias.trainable() != nil
	for _, l := range terms {
		if l.B == nil {
			continue
		}
		if p.out == 0 {
			p.out = l.B.Rows
		}
		lt := lowTerm{x: l.X, a: l.A, b: l.B, scale: l.Scale, grad: l.Grad, reads: l.Reads}
		if lt.x == nil || lt.x == x {
			lt.x, lt.own = x, true
		}
		if lt.a == nil {
			lt.z = lt.x
		} else {
			lt.z = t.New(x.Rows, lt.a.Rows)
			kernels.Gemm(lt.z.Mat(), false, kernels.Term{A: lt.x.Mat(), B: lt.a.Mat(), TransB: true})
		}
		lt.joined = lt.own && lt.a == nil && w != nil
		lt.needsZ = lt.x.Needs || lt.a != nil && lt.a.Needs
		p.needs = p.needs || lt.needsZ || lt.b.Needs || lt.grad != nil
		p.low = append(p.low, lt)
	}
	return p
}

// forward computes rows r0 to r1 of the output into y.
func (p *product) forward(y kernels.Mat, r0, r1 int) {
	terms := make([]kernels.Term, 0, 1+len(p.low))
	if p.w != nil {
		terms = p.joined(append(terms, p.w.times(p.x.Mat().RowsOf(r0, r1))), true)
	}
	for i := range p.low {
		l := &p.low[i]
		if l.scale != 0 && !l.joined {
			terms = append(terms, kernels.Term{A: l.z.Mat().RowsOf(r0, r1), B: l.b.Mat(), TransB: true, Scale: l.scale})
		}
	}
	if p.bias != nil {
		b := p.bias.floats()
		eachRow(y.Rows, y.Cols, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				copy(y.Row(r), b)
			}
		})
	}
	if len(terms) > 0 {
		kernels.Gemm(y, p.bias != nil, terms...)
	} else if p.bias == nil {
		for r := range y.Rows {
			clear(y.Row(r))
		}
	}
}

// joined appends the changes of the whole weight to its term.
func (p *product) joined(terms []kernels.Term, trans bool) []kernels.Term {
	for i := range p.low {
		if l := &p.low[i]; l.joined && l.scale != 0 {
			terms = append(terms, kernels.Term{B: l.b.Mat(), TransB: trans, Scale: l.scale, Joined: true})
		}
	}
	return terms
}

// saved lists what backward reads.
func (p *product) saved() []*Var {
	var s []*Var
	add := func(v *Var) {
		for _, o := range s {
			if o == v {
				return
			}
		}
		s = append(s, v)
	}
	if p.w.trainable() != nil {
		add(p.x)
	}
	for i := range p.low {
		l := &p.low[i]
		if l.b.Needs {
			add(l.z)
		}
		if l.a != nil && l.a.Needs {
			add(l.x)
		}
		for _, v := range l.reads {
			add(v)
		}
		// Factors may be activations themselves.
		if l.needsZ {
			add(l.b)
		}
		if l.a != nil && l.x.Needs {
			add(l.a)
		}
	}
	return s
}

// done drops what the forward pass does not need any more.
func (p *product) done() {
	for i := range p.low {
		l := &p.low[i]
		if l.a != nil {
			p.t.Discard(l.z)
		}
		if l.joined {
			p.t.drop(l.b)
		}
		if !l.own {
			p.t.drop(l.x)
		}
	}
}

// productGrads holds the gradient buffers of a product, and whether they are to
// be added to.
type productGrads struct {
	x    gradBuffer
	w    gradBuffer
	bias kernels.Mat
	low  []lowGrads
}

type gradBuffer struct {
	m    kernels.Mat
	acc  bool
	want bool
}

type lowGrads struct{ x, a, b gradBuffer }

func (t *Tape) gradBuffer(v *Var) gradBuffer {
	if v == nil || !v.Needs {
		return gradBuffer{}
	}
	m, acc := t.Grad(v)
	return gradBuffer{m, acc, true}
}

// gemm adds the product to a buffer that gathers several of them.
func (g *gradBuffer) gemm(terms ...kernels.Term) {
	if g.want && len(terms) > 0 {
		kernels.Gemm(g.m, g.acc, terms...)
		g.acc = true
	}
}

// rows writes rows r0 to r1 of a buffer that gets each row once.
func (g *gradBuffer) rows(r0, r1 int, terms ...kernels.Term) {
	if g.want {
		kernels.Gemm(g.m.RowsOf(r0, r1), g.acc, terms...)
	}
}

func (p *product) grads() *productGrads {
	g := &productGrads{low: make([]lowGrads, len(p.low))}
	own := p.w != nil
	for i := range p.low {
		own = own || p.low[i].own
	}
	if own {
		g.x = p.t.gradBuffer(p.x)
	}
	g.w = p.t.gradBuffer(p.w.trainable())
	if b := p.bias.trainable(); b != nil {
		g.bias = p.t.zeroed(b)
	}
	for i := range p.low {
		l := &p.low[i]
		if !l.own {
			g.low[i].x = p.t.gradBuffer(l.x)
		}
		g.low[i].a = p.t.gradBuffer(l.a)
		g.low[i].b = p.t.gradBuffer(l.b)
	}
	return g
}

// backward adds the gradients that rows r0 to r1 of the output, dy, give.
func (p *product) backward(g *productGrads, dy kernels.Mat, r0, r1 int) {
	if g.w.want {
		term := kernels.Term{A: dy, TransA: true, B: p.x.Mat().RowsOf(r0, r1)}
		if p.w.Transposed {
			term = kernels.Term{A: p.x.Mat().RowsOf(r0, r1), TransA: true, B: dy}
		}
		g.w.gemm(term)
	}
	if g.bias.Data != nil {
		columnSum(g.bias.Data, dy, nil, nil)
	}
	var dx []kernels.Term
	if g.x.want && p.w != nil {
		dx = p.joined(append(dx, p.w.timesBack(dy)), false)
	}
	var held []block
	for i := range p.low {
		l, lg := &p.low[i], &g.low[i]
		scale := l.scale
		if l.grad != nil {
			l.grad(dy, r0, r1)
		}
		if scale == 0 {
			// Gemm takes 0 for 1: an addition that is switched off has gradients of zero.
			lg.clear(r0, r1)
			continue
		}
		if lg.b.want {
			lg.b.gemm(kernels.Term{A: dy, TransA: true, B: l.z.Mat().RowsOf(r0, r1), Scale: scale})
		}
		if !l.needsZ {
			continue
		}
		if l.joined {
			continue
		}
		back := kernels.Term{A: dy, B: l.b.Mat(), Scale: scale}
		if l.a == nil {
			if l.own {
				dx = append(dx, back)
			} else {
				lg.x.rows(r0, r1, back)
			}
			continue
		}
		dz, mem := p.t.scratch(r1-r0, l.a.Rows)
		held = append(held, mem)
		kernels.Gemm(dz, false, back)
		if lg.a.want {
			lg.a.gemm(kernels.Term{A: dz, TransA: true, B: l.x.Mat().RowsOf(r0, r1)})
		}
		back = kernels.Term{A: dz, B: l.a.Mat()}
		if l.own {
			dx = append(dx, back)
		} else {
			lg.x.rows(r0, r1, back)
		}
	}
	if len(dx) > 0 {
		g.x.rows(r0, r1, dx...)
	} else if g.x.want && !g.x.acc {
		g.x.clear(r0, r1)
	}
	for _, m := range held {
		p.t.mem.release(m)
	}
}

func (g *gradBuffer) clear(r0, r1 int) {
	for r := r0; r < r1; r++ {
		clear(g.m.Row(r))
	}
}

func (l *lowGrads) clear(r0, r1 int) {
	if l.x.want && !l.x.acc {
		l.x.clear(r0, r1)
	}
	for _, g := range []*gradBuffer{&l.a, &l.b} {
		if g.want && !g.acc {
			g.clear(0, g.m.Rows)
			g.acc = true
		}
	}
}
