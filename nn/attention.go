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
	// KeySeqs makes it cross-attention: keys and values have rows of their own, and
	// the queries of Seqs[i] see the keys of KeySeqs[i]. Spans may overlap; queries
	// that see no key at all give zeros. nil means that keys and values have the
	// rows of the queries. It excludes Causal.
	KeySeqs []Span
	// Causal hides later rows of the own sequence.
	Causal bool
	// Window, if positive, hides all but the last Window keys up to the own one; with
	// KeySeqs all but the last Window keys, the past included, from every query.
	// It needs Causal or KeySeqs.
	Window int
	// PastK and PastV, [past, KVHeads*HeadDim], are seen by every query before the
	// keys of its own sequence: a key-value cache, or the prefix of prefix tuning.
	// They get a gradient if they want one.
	PastK, PastV *Var
	// SoftCap, if positive, bounds the scaled scores: SoftCap*tanh(score/SoftCap)
	// (Gemma 2).
	SoftCap float32
	// Bias is added to the scores, neither scaled nor capped; nil for none.
	Bias *RelativeBias
	// Dropout is the share of the probabilities that a tape with BaseDropout sets to
	// zero, the others growing for it (attention_dropout of configurations).
	Dropout float64
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
	out := t.New(q.Rows, s.Heads*s.HeadDim)
	out.Needs = q.Needs || k.Needs || v.Needs || s.PastK != nil && (s.PastK.Needs || s.PastV.Needs) ||
		s.Bias != nil && s.Bias.Table.Needs
	var lse *Var
	if t.Train && out.Needs {
		lse = t.New(q.Rows, s.Heads)
	}
	a := newAttention(q, k, v, out, lse, s)
	var drop *dropMask
	if t.drops(s.Dropout) {
		m := t.newMask(float32(s.Dropout))
		drop = &m
	}
	a.drop = drop
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
	if s.Bias != nil {
		saved = append(saved, s.Bias.Table)
	}
	t.record(out, func() {
		a := newAttention(q, k, v, out, lse, s)
		a.drop = drop
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
	case v.Rows != k.Rows || s.KeySeqs == nil && k.Rows != q.Rows:
		bad(fmt.Sprintf("%d queries, %d keys, %d values", q.Rows, k.Rows, v.Rows))
	case (s.PastK == nil) != (s.PastV == nil):
		bad("past keys without past values, or the reverse")
	case s.PastK != nil && (s.PastK.Cols != k.Cols || s.PastV.Cols != k.Cols || s.PastK.Rows != s.PastV.Rows):
		bad(fmt.Sprintf("past keys [%d,%d] and values [%d,%d] for rows of %d",
			s.PastK.Rows, s.PastK.Cols, s.PastV.Rows, s.PastV.Cols, k.Cols))
	case q == k || q == v:
		bad("the queries are also keys or values")
	case s.Window > 0 && !s.Causal && s.KeySeqs == nil:
		bad("a window needs causal attention, or keys of other rows")
	case s.Causal && s.KeySeqs != nil:
		bad("causal attention to keys of other rows")
	case s.Bias != nil && (s.Bias.Table == nil || s.Bias.Table.Cols != s.Heads || s.Bias.Bucket == nil):
		bad(fmt.Sprintf("a relative bias without buckets for %d heads", s.Heads))
	}
	if s.Seqs == nil {
		s.Seqs = []Span{{0, q.Rows}}
	}
	if s.KeySeqs != nil && len(s.KeySeqs) != len(s.Seqs) {
		bad(fmt.Sprintf("%d sequences of keys for %d of queries", len(s.KeySeqs), len(s.Seqs)))
	}
	for _, sp := range s.KeySeqs {
		if sp.Start < 0 || sp.End < sp.Start || sp.End > k.Rows {
			bad(fmt.Sprintf("keys [%d,%d) of %d", sp.Start, sp.End, k.Rows))
		}
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
	bias         *biasTable
	drop         *dropMask // nil for none
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
	if s.Bias != nil {
		a.bias = newBiasTable(a)
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

// keySpan returns the rows of keys that sequence seq sees.
func (a *attention) keySpan(seq int) Span {
	if a.KeySeqs != nil {
		return a.KeySeqs[seq]
	}
	return a.Seqs[seq]
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

// keyBlocks lists the blocks that the queries of a task can see.
func (a *attention) keyBlocks(dst []keyBlock, task attnTask, size int) []keyBlock {
	sp, keys, kv, r0, r1 := a.Seqs[task.seq], a.keySpan(task.seq), task.kv, task.r0, task.r1
	lo, hi := 0, a.past+keys.End-keys.Start
	if a.Causal {
		hi = a.past + r1 - sp.Start
		if a.Window > 0 {
			lo = max(0, a.past+r0-sp.Start-a.Window+1)
		}
	} else if a.Window > 0 {
		lo = max(0, hi-a.Window)
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
	add(a.km, a.vm, false, keys.Start+own-a.past, own, hi)
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
	q, o, g, scores, dscores, slope []float32
	max, sum, delta                 []float32
	blocks                          []keyBlock
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

// dropRow applies dropout to the probabilities of head h and query row r, for keys
// that begin at first as the sequence counts.
func (a *attention) dropRow(p []float32, h, r, first int) {
	if a.drop != nil {
		a.drop.row(r*a.Heads+h).to(p, p, first)
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
	w.blocks = a.keyBlocks(w.blocks[:0], task, forwardKeys)
	for bi := range w.blocks {
		b := &w.blocks[bi]
		s := kernels.MatOf(sized(&w.scores, rows*b.n), rows, b.n)
		kernels.Gemm(s, false, kernels.Term{A: q, B: b.k, TransB: true})
		for i := range rows {
			lo, hi := a.visible(b, sp, task.r0+i%n)
			row := s.Row(i)
			clear(row[:lo])
			clear(row[hi:])
			if a.SoftCap > 0 {
				softCap(row[lo:hi], a.SoftCap)
			}
			if a.bias != nil {
				a.bias.add(row[lo:hi], task.kv*a.group+i/n, b.first+lo, task.r0+i%n-sp.Start)
			}
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
				a.dropRow(row[lo:hi], task.kv*a.group+i/n, task.r0+i%n, b.first+lo)
			}
		}
		kernels.Gemm(o, bi > 0, kernels.Term{A: s, B: b.v})
	}
	if len(w.blocks) == 0 {
		clear(o.Data)
		clear(top)
		for i := range sum {
			sum[i] = 1
		}
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
	w.blocks = a.keyBlocks(w.blocks[:0], task, 1<<30)
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
				row := scores[n : n+hi-lo]
				for j := range row {
					row[j] = kernels.Dot(q, b.k.Row(lo+j))
				}
				if a.SoftCap > 0 {
					softCap(row, a.SoftCap)
				}
				if a.bias != nil {
					a.bias.add(row, h, b.first+lo, r-sp.Start)
				}
				n += len(row)
			}
			if n == 0 {
				clear(headOf(a.om, h, d).Row(r))
				if a.lse != nil {
					a.lse.Data[r*a.Heads+h] = 0
				}
				continue
			}
			top := kernels.Max(scores[:n])
			sum := expSum(scores[:n], top)
			out := headOf(a.om, h, d).Row(r)
			clear(out)
			n = 0
			for bi := range w.blocks {
				b := &w.blocks[bi]
				lo, hi := a.visible(b, sp, r)
				a.dropRow(scores[n:n+hi-lo], h, r, b.first+lo)
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
