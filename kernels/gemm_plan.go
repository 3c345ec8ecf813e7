package kernels

import (
	"sync"

	"github.com/peftkit/peftkit/kernels/lanes"
)

// How a product is cut. K, all terms end to end, is cut into blocks of kc. The
// packed form of an operand is a row of panels: mr rows of op(A), or nr columns
// of op(B), stored k by k, so that the micro-kernel reads both in order.
//
// The operand with more columns than a few panels is packed by column blocks of
// nc as the tasks come to them, into a buffer of the worker that stays in its
// L2 cache; op(A) is packed once before. If C is narrow, it is the other way
// round: op(B) is packed once and every task packs the rows it works on. If K is
// far longer than C is wide (the gradient that comes back through a vocabulary),
// both are packed once, in rounds along K, so that op(B) is read line by line.

const (
	gemvRows  = 4       // up to so many rows of C, op(B) is not packed at all
	maxKC     = 640     // mr*maxKC floats fit the L1 cache
	kcStep    = 32      // kc is a multiple: the block of most quantised types
	blockSize = 192_000 // floats of a block of op(B): well inside an L2 cache
	maxPacked = 4 << 20 // floats of packed op(A): more is done in several rounds
	deepN     = 1024    // a product is deep if C has at most so many columns
	deepK     = 4096    // and K is at least so long
	deepFloat = 1 << 20 // floats of op(B) that a round of a deep product packs
)

// gemmTerm is a Term at its place along K.
type gemmTerm struct {
	Term
	k0, k1 int // those of the term before, if joined to it
}

// gemmCall is one product under way. It is reused, so that a product allocates
// nothing once the buffers have grown.
type gemmCall struct {
	c       Mat
	add     bool
	terms   []gemmTerm
	m, n, k int

	lv     level
	model  *lanes.Tier // not nil: lv is levelGeneric
	mr, nr int
	kc     int // length of a block of K
	mPad   int // rows of C up to a multiple of mr

	nc             int // columns of a task
	i0, i1, b0, b1 int // the rows and the part of K of this round
	step           step
	packed         []float32 // op(A), or op(B) when C is narrow
	deep           bool
	packedB        []float32 // op(B) of a deep product
}

// step says what the items of a parallel job are.
type step uint8

const (
	stepPackA     step = iota // panels of op(A)
	stepColumns               // column blocks of C
	stepPackB                 // panels of op(B)
	stepPackLines             // lines of op(B)
	stepRows                  // panels of rows of C
	stepVector                // ranges of columns of C with few rows
)

// scratch is the memory of one worker.
type scratch struct {
	panel  []float32 // packed panels of the operand that tasks pack
	joined []float32 // panels of the operand that is added to it
	decode []float32 // rows of a stored weight, decoded
	tile   []float32 // an edge tile of C
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// grow returns a slice of n floats, not zeroed, reusing b if it is large enough.
func grow(b []float32, n int) []float32 {
	if cap(b) < n {
		// Above 32 KiB allocations begin at a page.
		return make([]float32, n, max(n, 16<<10))
	}
	return b[:n]
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
func roundUp(a, b int) int { return ceilDiv(a, b) * b }

func (g *gemmCall) init(c Mat, add bool, terms []Term) {
	g.c, g.add, g.m, g.n = c, add, c.Rows, c.Cols
	g.lv, g.model = active, model
	g.mr, g.nr = tileSize(g.lv)
	g.terms = g.terms[:0]
	at, base := 0, float32(1)
	for _, t := range terms {
		kt, _ := t.right()
		if kt == 0 {
			continue
		}
		if t.Scale == 0 {
			t.Scale = 1
		}
		if !t.Joined {
			base = t.Scale
		} else {
			last := &g.terms[len(g.terms)-1]
			t.A, t.TransA = last.A, last.TransA
			if g.m > gemvRows {
				g.terms = append(g.terms, gemmTerm{t, last.k0, last.k1})
				continue
			}
			// Nothing is packed there: it is a term like any other.
			t.Joined, t.Scale = false, t.Scale*base
		}
		g.terms = append(g.terms, gemmTerm{t, at, at + kt})
		at += kt
	}
	g.k = at
	g.mPad = roundUp(g.m, g.mr)
	// Only K decides, so that the order of every sum is fixed.
	g.kc = min(at, roundUp(ceilDiv(at, ceilDiv(at, maxKC)), kcStep))
}

// release drops the references to the caller's data.
func (g *gemmCall) release() {
	clear(g.terms)
	g.c = Mat{}
}

// parallelFlops is the work below which handing out tasks costs more than it gains.
func (g *gemmCall) small() bool {
	limit := 2 << 20
	switch {
	case g.lv == levelGeneric:
		limit = 1 << 17
	case g.step == stepVector:
		limit = 1 << 16 // few rows: the time goes into reading op(B)
	}
	return 2*g.m*g.n*g.k < limit
}

func (g *gemmCall) start(s step, items, chunk int) {
	g.step = s
	p := currentPool()
	if g.small() {
		chunk = items
	}
	p.run(g, items, max(chunk, 1))
}

// matrix computes the product with packed panels.
func (g *gemmCall) matrix() {
	threads := Threads()
	if g.n <= 2*g.nr {
		np := ceilDiv(g.n, g.nr)
		g.packed = grow(g.packed, np*g.nr*g.k)
		g.start(stepPackB, np, 1)
		panels := g.mPad / g.mr
		g.start(stepRows, panels, ceilDiv(panels, 4*threads))
		return
	}

	// Wide blocks read op(A) fewer times; several per worker keep all busy to
	// the end.
	g.nc = max(blockSize/g.kc/g.nr, 1) * g.nr
	if t := 4 * threads; ceilDiv(g.n, g.nc) < t {
		g.nc = max(min(g.nc, roundUp(ceilDiv(g.n, t), g.nr)), min(g.nc, 3*g.nr))
	}
	// A round packs rows i0 to i1 of op(A), b0 to b1 of K, and uses them up.
	mStep := min(max(maxPacked/g.kc/g.mr, 1)*g.mr, g.mPad)
	kStep := max(maxPacked/mStep/g.kc, 1) * g.kc
	g.deep = g.n <= deepN && g.k >= deepK && !g.terms[0].TransB
	if g.deep {
		kStep = min(kStep, max(deepFloat/roundUp(g.n, g.nr)/g.kc, 1)*g.kc)
	}
	for g.i0 = 0; g.i0 < g.m; g.i0 = g.i1 {
		g.i1 = min(g.i0+mStep, g.mPad)
		for g.b0 = 0; g.b0 < g.k; g.b0 = g.b1 {
			g.b1 = min(g.b0+kStep, g.k)
			g.packed = grow(g.packed, (g.i1-g.i0)*(g.b1-g.b0))
			panels := (g.i1 - g.i0) / g.mr
			g.start(stepPackA, panels, ceilDiv(panels, 4*threads))
			if g.deep {
				g.packedB = grow(g.packedB, roundUp(g.n, g.nr)*(g.b1-g.b0))
				g.start(stepPackLines, g.b1-g.b0, 4*packLines)
			}
			g.start(stepColumns, ceilDiv(g.n, g.nc), 1)
		}
	}
}

// run is the work of one goroutine on items lo to hi of the current step.
func (g *gemmCall) run(lo, hi int) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	switch g.step {
	case stepPackA:
		for b0 := g.b0; b0 < g.b1; b0 += g.kc {
			kb := min(g.kc, g.b1-b0)
			g.packA(g.packed[(g.i1-g.i0)*(b0-g.b0)+lo*g.mr*kb:], g.i0+lo*g.mr, g.i0+hi*g.mr, b0, b0+kb)
		}
	case stepColumns:
		for t := lo; t < hi; t++ {
			j0 := t * g.nc
			g.columns(s, j0, min(j0+g.nc, g.n))
		}
	case stepPackB:
		for q := lo; q < hi; q++ {
			for b0 := 0; b0 < g.k; b0 += g.kc {
				kb := min(g.kc, g.k-b0)
				at := roundUp(g.n, g.nr)*b0 + q*g.nr*kb
				g.packB(s, g.packed[at:], g.nr*kb, q*g.nr, min((q+1)*g.nr, g.n), b0, b0+kb)
			}
		}
	case stepPackLines:
		g.packLinesB(s, g.b0+lo, g.b0+hi)
	case stepRows:
		g.rows(s, lo, hi)
	case stepVector:
		g.vectorColumns(s, lo, hi)
	}
}
