package nn

import "github.com/peftkit/peftkit/kernels"

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
	// keys are the rows of keys that the sequence sees. ownK and ownV are the
	// part's buffers for their gradients, with row 0 for the first; without data it
	// adds to those of the call.
	keys         Span
	ownK, ownV   kernels.Mat
	pastK, pastV kernels.Mat
	// bias holds the gradient of the relative bias, one row per head.
	bias kernels.Mat
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
			parts = append(parts, attnPart{seq: i, r0: r, r1: min(r+size, sp.End), keys: a.keySpan(i)})
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
	taken := 0 // rows of keys below this one have a part that adds to them directly
	for i := range g.parts {
		p := &g.parts[i]
		if p.keys.Start < taken {
			if a.k.Needs {
				p.ownK = zeros(p.keys.End-p.keys.Start, a.k.Cols)
			}
			if a.v.Needs {
				p.ownV = zeros(p.keys.End-p.keys.Start, a.v.Cols)
			}
		}
		taken = max(taken, p.keys.End)
		if a.bias != nil && a.Bias.Table.Needs {
			p.bias = zeros(a.Heads, len(a.bias.buckets))
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
		addRows(g.k, p.keys.Start, p.ownK)
		addRows(g.v, p.keys.Start, p.ownV)
		if p.pastK.Data != nil {
			addRows(t.zeroed(a.PastK), 0, p.pastK)
		}
		if p.pastV.Data != nil {
			addRows(t.zeroed(a.PastV), 0, p.pastV)
		}
	}
	if a.bias != nil && a.Bias.Table.Needs {
		a.bias.backward(t.zeroed(a.Bias.Table), g.parts)
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

// backwardTask: P = exp(S - lse); dP = dO Vᵀ; dS = P ∘ (dP - rowsum(dO ∘ O));
// dQ = dS K; dK += dSᵀ Q; dV += Pᵀ dO. With dropout dV reads P after the mask,
// and dP goes through it.
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
	w.blocks = a.keyBlocks(w.blocks[:0], task, backwardKeys)
	for bi := range w.blocks {
		b := &w.blocks[bi]
		dk := keyGrad(b, p.pastK, p.ownK, g.k, p.keys.Start, task.kv, d)
		dv := keyGrad(b, p.pastV, p.ownV, g.v, p.keys.Start, task.kv, d)
		s := kernels.MatOf(sized(&w.scores, rows*b.n), rows, b.n)
		kernels.Gemm(s, false, kernels.Term{A: q, B: b.k, TransB: true})
		var slope kernels.Mat
		if a.SoftCap > 0 {
			slope = kernels.MatOf(sized(&w.slope, rows*b.n), rows, b.n)
		}
		for i := range rows {
			lo, hi := a.visible(b, sp, task.r0+i%n)
			row := s.Row(i)
			clear(row[:lo])
			clear(row[hi:])
			if a.SoftCap > 0 {
				softCap(row[lo:hi], a.SoftCap)
			}
			if slope.Data != nil {
				softCapSlope(slope.Row(i), row, a.SoftCap)
			}
			if a.bias != nil {
				a.bias.add(row[lo:hi], task.kv*a.group+i/n, b.first+lo, task.r0+i%n-sp.Start)
			}
			lse := a.lse.Data[(task.r0+i%n)*a.Heads+task.kv*a.group+i/n]
			kernels.SoftmaxScale(row[lo:hi], lse, 1)
		}
		inner := dk.Data != nil || g.q.Data != nil || p.bias.Data != nil
		var ds kernels.Mat
		if inner {
			ds = kernels.MatOf(sized(&w.dscores, rows*b.n), rows, b.n)
			kernels.Gemm(ds, false, kernels.Term{A: do, B: b.v, TransB: true})
		}
		for i := range rows {
			// P is zero outside of the visible keys. P∘dP - delta*P.
			prob, h, row := s.Row(i), task.kv*a.group+i/n, task.r0+i%n
			if inner {
				r := ds.Row(i)
				a.dropRow(r, h, row, b.first)
				kernels.Mul(r, r, prob)
				kernels.Axpy(-delta[i], prob, r)
				if p.bias.Data != nil {
					lo, hi := a.visible(b, sp, row)
					a.bias.addGrad(p.bias.Row(h), r[lo:hi], b.first+lo, row-sp.Start)
				}
				if slope.Data != nil {
					kernels.Mul(r, r, slope.Row(i))
				}
			}
			if dv.Data != nil {
				a.dropRow(prob, h, row, b.first)
			}
		}
		if dv.Data != nil {
			kernels.Gemm(dv, true, kernels.Term{A: s, TransA: true, B: do})
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
	if len(w.blocks) == 0 {
		clear(dq.Data)
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
