package lora

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"unsafe"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// DoRA (Liu et al. 2024, arXiv 2402.09353) gives each output feature a trained
// length: y = m/|W + s B A| (W x + s B A x), where |.| is the norm of each row and
// a constant for the gradient, as the paper's section 4.3 proposes and PEFT does.

// attachDoRA hooks into a linear layer. The factors ride along in the layer's
// product; what is done to its outputs scales all that was attached before.
func (s *linear) attachDoRA(layer *nn.LinearLayer, scale float32) error {
	if layer.Hooked() {
		return fmt.Errorf("DoRA scales the whole output of its layer, and another method is attached there: name DoRA first, or give the methods other target_modules: %w", peft.ErrConfig)
	}
	p := float32(s.cfg.Dropout)
	term := func() nn.LowRank { return nn.LowRank{A: s.a.V, B: s.b.V, Scale: s.effect} }
	dropped := func(t *nn.Tape) bool { return p > 0 && t.Train }
	layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		s.see(x)
		if s.off || dropped(t) {
			return nn.LowRank{}
		}
		return term()
	})
	if s.start != nil {
		layer.AddLowRank(func(*nn.Tape, *nn.Var) nn.LowRank { return s.start.term(s.effect) })
	}
	layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		y := next(t, x)
		if s.off {
			return y
		}
		c := s.factors(t, scale)
		if dropped(t) {
			// PEFT: W x is as it was, the change is computed on the dropped input.
			d := nn.Dropout(t, x, p)
			var rest []nn.LowRank
			if s.start != nil {
				rest = append(rest, s.start.term(s.effect))
			}
			base := nn.LinearOp(t, d, layer.W, nil, rest...)
			low := nn.LinearOp(t, d, nil, nil, term())
			change, low2 := nn.MulRow(t, base, nn.AddConst(t, c, -1)), nn.MulRow(t, low, c)
			t.Discard(d)
			t.Discard(base)
			t.Discard(low)
			return nn.Add(t, nn.Add(t, y, change), low2)
		}
		if layer.Bias == nil {
			return scaled(t, y, c)
		}
		b := biasOf(layer.Bias)
		plain := nn.AddRow(t, y, nn.Scale(t, b, -1))
		t.Discard(y)
		y = scaled(t, plain, c)
		out := nn.AddRow(t, y, b)
		t.Discard(y)
		return out
	})
	return nil
}

// scaled is MulRow of something that is not read again.
func scaled(t *nn.Tape, x, row *nn.Var) *nn.Var {
	y := nn.MulRow(t, x, row)
	t.Discard(x)
	return y
}

// biasOf is a bias as a row.
func biasOf(w *nn.Weight) *nn.Var {
	if w.P != nil {
		return w.P.V
	}
	v := &nn.Var{Rows: 1, Cols: w.In, Data: make([]float32, w.In)}
	w.Row(v.Data, 0)
	return v
}

// factors is m/|W + s B A| as a row; with an effect other than 1 the way from 1 to
// it.
func (s *site) factors(t *nn.Tape, scale float32) *nn.Var {
	norm := s.norms.of(s, s.effect)
	inv := &nn.Var{Rows: 1, Cols: len(norm), Data: make([]float32, len(norm))}
	for i, v := range norm {
		inv.Data[i] = scale / v
	}
	c := nn.Mul(t, s.mag.V, inv)
	if scale != 1 {
		c = nn.AddConst(t, c, 1-scale)
	}
	return c
}

// mergeMagnitude scales merged rows: the norms are those of the rows themselves.
func (s *linear) mergeMagnitude(w kernels.Mat, r0 int, scale float32) {
	for r := range w.Rows {
		row := w.Row(r)
		f := s.mag.V.Data[r0+r] / norm(row)
		if scale != 1 {
			f = 1 + scale*(f-1)
		}
		for i := range row {
			row[i] *= f
		}
	}
}

func norm(row []float32) float32 {
	sum := 0.0
	for _, x := range row {
		sum += float64(x) * float64(x)
	}
	return float32(math.Sqrt(sum))
}

// doraEmbedding is an embedding with DoRA: each feature has a length, over all
// tokens.
type doraEmbedding struct{ *site }

// Attach implements tuner.Site.
func (s *doraEmbedding) Attach(scale float32) error {
	layer := s.at.Mod.Embedding
	if layer.Hooked() {
		return fmt.Errorf("DoRA scales the whole output of its embedding, and another method is attached there: name DoRA first: %w", peft.ErrConfig)
	}
	s.effect = s.scale * scale
	b := s.factor()
	layer.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		z := nn.GatherCols(t, s.a.V, ids, layer.PaddingRow())
		y := nn.Add(t, next(t, ids), nn.Scale(t, nn.LinearOp(t, z, b, nil), s.effect))
		return scaled(t, y, s.factors(t, scale))
	})
	return nil
}

// Merge implements tuner.Merging.
func (s *doraEmbedding) Merge(w kernels.Mat, scale float32) {
	s.addRows(w, 0, w.Rows, scale)
	sums := make([]float64, w.Cols)
	for r := range w.Rows {
		for i, x := range w.Row(r) {
			sums[i] += float64(x) * float64(x)
		}
	}
	for i, v := range sums {
		sums[i] = float64(1 + scale*(s.mag.V.Data[i]/float32(math.Sqrt(v))-1))
	}
	for r := range w.Rows {
		row := w.Row(r)
		for i := range row {
			row[i] *= float32(sums[i])
		}
	}
}

// norms computes |W + s B A| of each feature without forming W + s B A: the square
// is |w|² + 2 s b·(A w) + s² b·(A Aᵀ) b. |w|² is kept, and the result too while A
// and B stay as they are, so that generating text costs no norms.
type norms struct {
	mu      sync.Mutex
	base    *nn.Weight
	squares []float64 // |w|²
	a, b    []float32 // that the result is of
	scale   float32
	result  []float32
	held    bool // tests: the norm does not follow A and B
}

func (n *norms) of(s *site, scale float32) []float32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := s.at.Mod.Weight()
	if n.base == w && n.result != nil && (n.held || n.scale == scale && same(n.a, s.a.V.Data) && same(n.b, s.b.V.Data)) {
		return n.result
	}
	if n.base != w || n.squares == nil || w.P != nil {
		n.base, n.squares = w, squares(w, s.at.Mod.Embedding != nil)
	}
	left, right := s.b.V.Mat(), s.a.V.Mat() // of the change: rows of left times right
	terms := []normTerm{{left, right, scale}}
	if s.start != nil {
		terms = append(terms, normTerm{s.start.b.Mat(), s.start.a.Mat(), -scale})
	}
	sum := append([]float64(nil), n.squares...)
	for i, t := range terms {
		cross(sum, t.b, product(t.a, w, s.at.Mod.Embedding != nil), 2*float64(t.scale))
		for j, u := range terms[:i+1] {
			twice := 1.0
			if j < i {
				twice = 2
			}
			// b·(A Uᵀ) c of each feature.
			g := kernels.NewMat(t.a.Rows, u.a.Rows)
			kernels.Gemm(g, false, kernels.Term{A: t.a, B: u.a, TransB: true})
			h := kernels.NewMat(t.a.Rows, u.b.Rows)
			kernels.Gemm(h, false, kernels.Term{A: g, B: u.b, TransB: true})
			cross(sum, t.b, h, twice*float64(t.scale)*float64(u.scale))
		}
	}
	out := make([]float32, len(sum))
	for i, v := range sum {
		out[i] = float32(math.Sqrt(math.Max(v, 0)))
	}
	n.a, n.b = append(n.a[:0], s.a.V.Data...), append(n.b[:0], s.b.V.Data...)
	n.scale, n.result = scale, out
	return out
}

type normTerm struct {
	b, a  kernels.Mat
	scale float32
}

// cross adds scale times row i of b times column i of p to sum[i].
func cross(sum []float64, b, p kernels.Mat, scale float64) {
	dots := make([]float64, len(sum))
	for k := range p.Rows {
		row := p.Row(k)
		for i := range dots {
			dots[i] += float64(b.Data[i*b.Stride+k]) * float64(row[i])
		}
	}
	for i, v := range dots {
		sum[i] += scale * v
	}
}

// product is A Wᵀ of a linear layer, [r, out], or A W of an embedding, [r, dim].
func product(a kernels.Mat, w *nn.Weight, embedding bool) kernels.Mat {
	n := w.Out
	if embedding {
		n = w.In
	}
	term := kernels.Term{A: a, W: w.Frozen, TransB: embedding == w.Transposed}
	if w.P != nil {
		term.B, term.W = w.P.V.Mat(), nil
	}
	out := kernels.NewMat(a.Rows, n)
	kernels.Gemm(out, false, term)
	return out
}

// squares returns the squared length of each output feature of W, for an
// embedding of each feature over the tokens.
func squares(w *nn.Weight, embedding bool) []float64 {
	rows, cols := w.Out, w.In
	if w.Transposed {
		rows, cols = cols, rows
	}
	if embedding == w.Transposed { // features are stored rows
		out := make([]float64, rows)
		kernels.Parallel(rows, 16, func(lo, hi int) {
			tmp := make([]float32, cols)
			for i := lo; i < hi; i++ {
				w.Row(tmp, i)
				for _, x := range tmp {
					out[i] += float64(x) * float64(x)
				}
			}
		})
		return out
	}
	const band = 256 // rows summed alone, so that threads change nothing
	parts := make([][]float64, (rows+band-1)/band)
	kernels.Parallel(len(parts), 1, func(lo, hi int) {
		tmp := make([]float32, cols)
		for b := lo; b < hi; b++ {
			parts[b] = make([]float64, cols)
			for i := b * band; i < min((b+1)*band, rows); i++ {
				w.Row(tmp, i)
				for j, x := range tmp {
					parts[b][j] += float64(x) * float64(x)
				}
			}
		}
	})
	out := make([]float64, cols)
	for _, part := range parts {
		for j, x := range part {
			out[j] += x
		}
	}
	return out
}

// same compares bits: faster than numbers, and it runs for every token.
func same(a, b []float32) bool {
	return len(a) == len(b) && bytes.Equal(bits(a), bits(b))
}

func bits(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}
