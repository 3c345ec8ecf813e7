package nn

import (
	"fmt"
	"math"
	"sync"

	"github.com/peftkit/peftkit/kernels"
)

// Span says that rows Start to End (not included) are one sequence.
type Span struct{ Start, End int }

// AttnSpec describes grouped-query attention over packed sequences.
type AttnSpec struct {
	// Heads query heads share KVHeads key and value heads; both have HeadDim
	// columns each.
	Heads, KVHeads, HeadDim int
	// Scale multiplies the scores; usually 1/sqrt(HeadDim).
	Scale float32
	// Seqs are the sequences in the rows; none sees another. nil is one sequence
	// of all rows. Rows outside of every span give zeros.
	Seqs []Span
	// Causal hides later rows of the own sequence.
	Causal bool
	// Window, if positive, hides all but the last Window keys up to the own one.
	// It needs Causal.
	Window int
	// PastK and PastV, [past, KVHeads*HeadDim], are seen by every query before the
	// keys of its own sequence: a key-value cache, or the prefix of prefix tuning.
	// They get a gradient if they want one.
	PastK, PastV *Var
}

const (
	queryBlock   = 64   // queries of one head that are scored together
	forwardKeys  = 1024 // keys scored at once, forward
	backwardKeys = 512  // and backward, which holds two blocks
)

// Attention returns softmax(scale · q kᵀ) v for every head, as [rows,
// Heads*HeadDim]. Scores are computed in blocks and never stored: backward
// computes them again from the log-sum-exp of each row and head (Dao et al. 2022).
func Attention(t *Tape, q, k, v *Var, s AttnSpec) *Var {
	checkAttention(q, k, v, &s)
	if s.Seqs == nil {
		s.Seqs = []Span{{0, q.Rows}}
	}
	out := t.New(q.Rows, s.Heads*s.HeadDim)
	out.Needs = q.Needs || k.Needs || v.Needs || s.PastK != nil && (s.PastK.Needs || s.PastV.Needs)
	var lse *Var
	if t.Train && out.Needs {
		lse = t.New(q.Rows, s.Heads)
	}
	a := newAttention(q, k, v, out, lse, s)
	if a.covered < q.Rows {
		kernels.Parallel(len(out.Data), grain, func(lo, hi int) { clear(out.Data[lo:hi]) })
	}
	a.forward()
	if lse == nil {
		return out
	}
	saved := []*Var{q, k, v, out, lse}
	if s.PastK != nil {
		saved = append(saved, s.PastK, s.PastV)
	}
	t.record(out, func() {
		a := newAttention(q, k, v, out, lse, s)
		a.backward(t)
	}, saved...)
	t.Discard(lse)
	return out
}

func checkAttention(q, k, v *Var, s *AttnSpec) {
	bad := func(what string) { panic("nn: Attention: " + what) }
	switch {
	case s.Heads < 1 || s.KVHeads < 1 || s.HeadDim < 1 || s.Heads%s.KVHeads != 0:
		bad(fmt.Sprintf("%d heads of %d on %d key-value heads", s.Heads, s.HeadDim, s.KVHeads))
	case q.Cols != s.Heads*s.HeadDim || k.Cols != s.KVHeads*s.HeadDim || v.Cols != k.Cols:
		bad(fmt.Sprintf("rows of %d, %d and %d elements for %d and %d heads of %d",
			q.Cols, k.Cols, v.Cols, s.Heads, s.KVHeads, s.HeadDim))
	case k.Rows != q.Rows || v.Rows != q.Rows:
		bad(fmt.Sprintf("%d queries, %d keys, %d values", q.Rows, k.Rows, v.Rows))
	case (s.PastK == nil) != (s.PastV == nil):
		bad("past keys without past values, or the reverse")
	case s.PastK != nil && (s.PastK.Cols != k.Cols || s.PastV.Cols != k.Cols || s.PastK.Rows != s.PastV.Rows):
		bad(fmt.Sprintf("past keys [%d,%d] and values [%d,%d] for rows of %d",
			s.PastK.Rows, s.PastK.Cols, s.PastV.Rows, s.PastV.Cols, k.Cols))
	case q == k || q == v:
		bad("the queries are also keys or values")
	case s.Window > 0 && !s.Causal:
		bad("a window needs causal attention")
	}
	end := 0
	for _, sp := range s.Seqs {
		if sp.Start < end || sp.End < sp.Start || sp.End > q.Rows {
			bad(fmt.Sprintf("sequence [%d,%d) after row %d of %d", sp.Start, sp.End, end, q.Rows))
		}
		end = sp.End
	}
}

// attention is one call: the matrices and the list of tasks.
type attention struct {
	AttnSpec
	q, k, v, out *Var
	qm, km, vm   kernels.Mat
	om           kernels.Mat
	pk, pv       kernels.Mat
	lse          *Var
	group, past  int
	covered      int // rows inside of spans
	tasks        []attnTask
}

// attnTask is a block of queries, of all heads that share a key-value head.
type attnTask struct{ seq, kv, r0, r1 int }

func newAttention(q, k, v, out, lse *Var, s AttnSpec) *attention {
	a := &attention{AttnSpec: s, q: q, k: k, v: v, out: out, lse: lse, group: s.Heads / s.KVHeads}
	a.qm, a.km, a.vm, a.om = q.Mat(), k.Mat(), v.Mat(), out.Mat()
	if s.PastK != nil {
		a.past = s.PastK.Rows
		a.pk, a.pv = s.PastK.Mat(), s.PastV.Mat()
	}
	for i, sp := range s.Seqs {
		a.covered += sp.End - sp.Start
		for h := range s.KVHeads {
			for r := sp.Start; r < sp.End; r += queryBlock {
				a.tasks = append(a.tasks, attnTask{i, h, r, min(r+queryBlock, sp.End)})
			}
		}
	}
	return a
}

// headOf views the columns of head h.
func headOf(m kernels.Mat, h, dim int) kernels.Mat {
	return kernels.Mat{Data: m.Data[min(h*dim, len(m.Data)):], Rows: m.Rows, Cols: dim, Stride: m.Stride}
}

// keyBlock is a range of keys that lie one below the other: of the past, or of
// the own sequence. first is the index of its first key as the sequence counts,
// the past included.
type keyBlock struct {
	k, v  kernels.Mat
	past  bool
	row   int // first row in its matrix
	n     int
	first int
}

// keyBlocks lists the blocks that queries r0 to r1 of a sequence can see.
func (a *attention) keyBlocks(dst []keyBlock, sp Span, kv, r0, r1, size int) []keyBlock {
	lo, hi := 0, a.past+sp.End-sp.Start
	if a.Causal {
		hi = a.past + r1 - sp.Start
		if a.Window > 0 {
			lo = max(0, a.past+r0-sp.Start-a.Window+1)
		}
	}
	add := func(km, vm kernels.Mat, past bool, row, first, end int) {
		for first < end {
			n := min(size, end-first)
			dst = append(dst, keyBlock{
				k: headOf(km.RowsOf(row, row+n), kv, a.HeadDim), v: headOf(vm.RowsOf(row, row+n), kv, a.HeadDim),
				past: past, row: row, n: n, first: first,
			})
			row += n
			first += n
		}
	}
	if lo < a.past {
		add(a.pk, a.pv, true, lo, lo, a.past)
	}
	own := max(lo, a.past)
	add(a.km, a.vm, false, sp.Start+own-a.past, own, hi)
	return dst
}

// visible returns the range of keys of block b, counted from its first, that
// query row r sees.
func (a *attention) visible(b *keyBlock, sp Span, r int) (lo, hi int) {
	lo, hi = 0, b.n
	if a.Causal {
		own := a.past + r - sp.Start
		hi = min(hi, own+1-b.first)
		if a.Window > 0 {
			lo = max(lo, own-a.Window+1-b.first)
		}
	}
	hi = max(hi, 0)
	return min(lo, hi), hi
}

// attnScratch is what a worker needs for one task.
type attnScratch struct {
	q, o, g, scores, dscores []float32
	max, sum, delta          []float32
	blocks                   []keyBlock
}

var attnPool = sync.Pool{New: func() any { return new(attnScratch) }}

func sized(s *[]float32, n int) []float32 {
	if cap(*s) < n {
		*s = make([]float32, n)
	}
	return (*s)[:n]
}

// gather copies the heads of group kv, rows r0 to r1, one head below the other.
func (a *attention) gather(dst kernels.Mat, src kernels.Mat, kv, r0, r1 int, scale float32) {
	n := r1 - r0
	for g := range a.group {
		h := headOf(src, kv*a.group+g, a.HeadDim)
		for i := range n {
			d := dst.Row(g*n + i)
			copy(d, h.Row(r0+i))
			if scale != 1 {
				kernels.Scale(d, scale)
			}
		}
	}
}

func (a *attention) forward() {
	kernels.Parallel(len(a.tasks), 1, func(lo, hi int) {
		w := attnPool.Get().(*attnScratch)
		for _, task := range a.tasks[lo:hi] {
			if task.r1-task.r0 <= 4 {
				a.forwardFew(task, w)
			} else {
				a.forwardTask(task, w)
			}
		}
		w.blocks = w.blocks[:cap(w.blocks)]
		clear(w.blocks)
		attnPool.Put(w)
	})
}

// forwardTask keeps a running maximum and sum per row over the blocks of keys.
func (a *attention) forwardTask(task attnTask, w *attnScratch) {
	sp, n, d := a.Seqs[task.seq], task.r1-task.r0, a.HeadDim
	rows := n * a.group
	q := kernels.MatOf(sized(&w.q, rows*d), rows, d)
	o := kernels.MatOf(sized(&w.o, rows*d), rows, d)
	top, sum := sized(&w.max, rows), sized(&w.sum, rows)
	a.gather(q, a.qm, task.kv, task.r0, task.r1, a.Scale)
	w.blocks = a.keyBlocks(w.blocks[:0], sp, task.kv, task.r0, task.r1, forwardKeys)
	for bi := range w.blocks {
		b := &w.blocks[bi]
		s := kernels.MatOf(sized(&w.scores, rows*b.n), rows, b.n)
		kernels.Gemm(s, false, kernels.Term{A: q, B: b.k, TransB: true})
		for i := range rows {
			lo, hi := a.visible(b, sp, task.r0+i%n)
			row := s.Row(i)
			clear(row[:lo])
			clear(row[hi:])
			m := kernels.Max(row[lo:hi])
			if bi == 0 {
				top[i], sum[i] = m, 0
			} else if m > top[i] {
				c := float32(0)
				if !isInf(top[i]) {
					c = exp32(top[i] - m)
				}
				top[i] = m
				sum[i] *= c
				kernels.Scale(o.Row(i), c)
			}
			if lo < hi {
				sum[i] += expSum(row[lo:hi], top[i])
			}
		}
		kernels.Gemm(o, bi > 0, kernels.Term{A: s, B: b.v})
	}
	for i := range rows {
		h, r := task.kv*a.group+i/n, task.r0+i%n
		kernels.Scale(o.Row(i), 1/sum[i])
		copy(headOf(a.om, h, d).Row(r), o.Row(i))
		if a.lse != nil {
			a.lse.Data[r*a.Heads+h] = top[i] + float32(math.Log(float64(sum[i])))
		}
	}
}

// forwardFew is for a handful of queries, as when a text is generated: vectors
// instead of matrix products.
func (a *attention) forwardFew(task attnTask, w *attnScratch) {
	sp, d := a.Seqs[task.seq], a.HeadDim
	w.blocks = a.keyBlocks(w.blocks[:0], sp, task.kv, task.r0, task.r1, 1<<30)
	total := 0
	for i := range w.blocks {
		total += w.blocks[i].n
	}
	scores := sized(&w.scores, total)
	q := sized(&w.q, d)
	for g := range a.group {
		h := task.kv*a.group + g
		for r := task.r0; r < task.r1; r++ {
			copy(q, headOf(a.qm, h, d).Row(r))
			kernels.Scale(q, a.Scale)
			n := 0
			for bi := range w.blocks {
				b := &w.blocks[bi]
				lo, hi := a.visible(b, sp, r)
				for j := lo; j < hi; j++ {
					scores[n] = kernels.Dot(q, b.k.Row(j))
					n++
				}
			}
			top := kernels.Max(scores[:n])
			sum := expSum(scores[:n], top)
			out := headOf(a.om, h, d).Row(r)
			clear(out)
			n = 0
			for bi := range w.blocks {
				b := &w.blocks[bi]
				lo, hi := a.visible(b, sp, r)
				for j := lo; j < hi; j++ {
					kernels.Axpy(scores[n], b.v.Row(j), out)
					n++
				}
			}
			kernels.Scale(out, 1/sum)
			if a.lse != nil {
				a.lse.Data[r*a.Heads+h] = top + float32(math.Log(float64(sum)))
			}
		}
	}
}

// attnGrads are the gradient buffers of one call. Several parts of a sequence
// add to the same keys and values: each part after the first has buffers of its
// own, which are summed in order at the end.
type attnGrads struct {
	q    kernels.Mat
	accQ bool
	// k and v hold the rows of the whole call, zeroed where they are added to.
	k, v  kernels.Mat
	parts []attnPart
}

// attnPart is the work of one task of the backward pass for each key-value head:
// the queries r0 to r1 of a sequence.
type attnPart struct {
	seq, r0, r1 int
	// ownK and ownV are the part's buffers for the keys and values of its
	// sequence, with row 0 for the first; without data it adds to those of the call.
	ownK, ownV   kernels.Mat
	pastK, pastV kernels.Mat
}

// splitQueries is the number of queries from which a sequence is more than one
// part, and maxParts the most parts that one sequence becomes: with few
// sequences and key-value heads, there would be too few tasks for all cores.
const (
	splitQueries = 512
	maxParts     = 4
)

// parts lists the parts of the backward pass. Shapes alone decide, so that sums
// do not depend on the number of threads.
func (a *attention) parts() []attnPart {
	var parts []attnPart
	for i, sp := range a.Seqs {
		n := sp.End - sp.Start
		count := min(max(1, n/splitQueries), maxParts)
		size := (n + count - 1) / count
		size = (size + queryBlock - 1) / queryBlock * queryBlock
		for r := sp.Start; r < sp.End; r += size {
			parts = append(parts, attnPart{seq: i, r0: r, r1: min(r+size, sp.End)})
		}
	}
	return parts
}

// backward runs one task per part and key-value head, which alone writes the
// gradients of its queries, and of the part's keys and values.
func (a *attention) backward(t *Tape) {
	g := attnGrads{parts: a.parts()}
	if a.q.Needs {
		g.q, g.accQ = t.Grad(a.q)
		if !g.accQ && a.covered < a.q.Rows {
			kernels.Parallel(len(g.q.Data), grain, func(lo, hi int) { clear(g.q.Data[lo:hi]) })
		}
	}
	if a.k.Needs {
		g.k = t.zeroed(a.k)
	}
	if a.v.Needs {
		g.v = t.zeroed(a.v)
	}
	var held []block
	zeros := func(rows, cols int) kernels.Mat {
		m, b := t.scratch(rows, cols)
		kernels.Parallel(len(m.Data), grain, func(lo, hi int) { clear(m.Data[lo:hi]) })
		held = append(held, b)
		return m
	}
	for i := range g.parts {
		p := &g.parts[i]
		sp := a.Seqs[p.seq]
		if p.r0 > sp.Start {
			if a.k.Needs {
				p.ownK = zeros(sp.End-sp.Start, a.k.Cols)
			}
			if a.v.Needs {
				p.ownV = zeros(sp.End-sp.Start, a.v.Cols)
			}
		}
		if a.past > 0 && a.PastK.Needs {
			p.pastK = zeros(a.past, a.PastK.Cols)
		}
		if a.past > 0 && a.PastV.Needs {
			p.pastV = zeros(a.past, a.PastV.Cols)
		}
	}

	kernels.Parallel(len(g.parts)*a.KVHeads, 1, func(lo, hi int) {
		w := attnPool.Get().(*attnScratch)
		for i := lo; i < hi; i++ {
			p := &g.parts[i/a.KVHeads]
			for r := p.r0; r < p.r1; r += queryBlock {
				a.backwardTask(attnTask{p.seq, i % a.KVHeads, r, min(r+queryBlock, p.r1)}, &g, p, w)
			}
		}
		w.blocks = w.blocks[:cap(w.blocks)]
		clear(w.blocks)
		attnPool.Put(w)
	})

	for i := range g.parts {
		p := &g.parts[i]
		start := a.Seqs[p.seq].Start
		addRows(g.k, start, p.ownK)
		addRows(g.v, start, p.ownV)
		if p.pastK.Data != nil {
			addRows(t.zeroed(a.PastK), 0, p.pastK)
		}
		if p.pastV.Data != nil {
			addRows(t.zeroed(a.PastV), 0, p.pastV)
		}
	}
	for _, b := range held {
		t.mem.release(b)
	}
}

// addRows adds src to dst from row r0 on.
func addRows(dst kernels.Mat, r0 int, src kernels.Mat) {
	if src.Data == nil {
		return
	}
	d := dst.RowsOf(r0, r0+src.Rows)
	eachRow(src.Rows, src.Cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			kernels.Add(d.Row(r), d.Row(r), src.Row(r))
		}
	})
}

// keyGrad returns where the gradient of block b of head kv goes: to the past's
// buffer, the part's own, or that of the call.
func keyGrad(b *keyBlock, past, own, all kernels.Mat, start, kv, dim int) kernels.Mat {
	m, row := all, b.row
	switch {
	case b.past:
		m = past
	case own.Data != nil:
		m, row = own, b.row-start
	}
	if m.Data == nil {
		return m
	}
	return headOf(m.RowsOf(row, row+b.n), kv, dim)
}

// backwardTask: P = exp(S - lse); dV += Pᵀ dO; dP = dO Vᵀ;
// dS = P ∘ (dP - rowsum(dO ∘ O)); dQ = dS K; dK += dSᵀ Q.
func (a *attention) backwardTask(task attnTask, g *attnGrads, p *attnPart, w *attnScratch) {
	sp, n, d := a.Seqs[task.seq], task.r1-task.r0, a.HeadDim
	rows := n * a.group
	q := kernels.MatOf(sized(&w.q, rows*d), rows, d)
	do := kernels.MatOf(sized(&w.g, rows*d), rows, d)
	dq := kernels.MatOf(sized(&w.o, rows*d), rows, d)
	delta := sized(&w.delta, rows)
	a.gather(q, a.qm, task.kv, task.r0, task.r1, a.Scale)
	a.gather(do, a.out.gradMat(), task.kv, task.r0, task.r1, 1)
	for i := range rows {
		delta[i] = kernels.Dot(do.Row(i), headOf(a.om, task.kv*a.group+i/n, d).Row(task.r0+i%n))
	}
	w.blocks = a.keyBlocks(w.blocks[:0], sp, task.kv, task.r0, task.r1, backwardKeys)
	for bi := range w.blocks {
		b := &w.blocks[bi]
		dk := keyGrad(b, p.pastK, p.ownK, g.k, sp.Start, task.kv, d)
		dv := keyGrad(b, p.pastV, p.ownV, g.v, sp.Start, task.kv, d)
		s := kernels.MatOf(sized(&w.scores, rows*b.n), rows, b.n)
		kernels.Gemm(s, false, kernels.Term{A: q, B: b.k, TransB: true})
		for i := range rows {
			lo, hi := a.visible(b, sp, task.r0+i%n)
			row := s.Row(i)
			clear(row[:lo])
			clear(row[hi:])
			lse := a.lse.Data[(task.r0+i%n)*a.Heads+task.kv*a.group+i/n]
			kernels.SoftmaxScale(row[lo:hi], lse, 1)
		}
		if dv.Data != nil {
			kernels.Gemm(dv, true, kernels.Term{A: s, TransA: true, B: do})
		}
		if dk.Data == nil && g.q.Data == nil {
			continue
		}
		ds := kernels.MatOf(sized(&w.dscores, rows*b.n), rows, b.n)
		kernels.Gemm(ds, false, kernels.Term{A: do, B: b.v, TransB: true})
		for i := range rows {
			// P is zero outside of the visible keys. P∘dP - delta*P.
			p, r := s.Row(i), ds.Row(i)
			kernels.Mul(r, r, p)
			kernels.Axpy(-delta[i], p, r)
		}
		if g.q.Data != nil {
			kernels.Gemm(dq, bi > 0, kernels.Term{A: ds, B: b.k, Scale: a.Scale})
		}
		if dk.Data != nil {
			// q was scaled when it was gathered.
			kernels.Gemm(dk, true, kernels.Term{A: ds, TransA: true, B: q})
		}
	}
	if g.q.Data == nil {
		return
	}
	for i := range rows {
		dst := headOf(g.q, task.kv*a.group+i/n, d).Row(task.r0 + i%n)
		if g.accQ {
			kernels.Add(dst, dst, dq.Row(i))
		} else {
			copy(dst, dq.Row(i))
		}
	}
}

// ones is what Dot sums a row with.
var ones = func() (o [1024]float32) {
	for i := range o {
		o[i] = 1
	}
	return
}()

// expSum does x[i] = exp(x[i]-shift) and returns the sum.
func expSum(x []float32, shift float32) float32 {
	kernels.SoftmaxScale(x, shift, 1)
	sum := float32(0)
	for len(x) > 0 {
		n := min(len(x), len(ones))
		sum += kernels.Dot(x[:n], ones[:n])
		x = x[n:]
	}
	return sum
}

func exp32(x float32) float32 { return float32(math.Exp(float64(x))) }

func isInf(x float32) bool { return math.IsInf(float64(x), 0) }
