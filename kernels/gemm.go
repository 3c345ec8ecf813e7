package kernels

import (
	"fmt"
	"sync"
)

//go:generate go run ./_gen

// Term is one product of a sum: op(A) times op(B), times Scale.
type Term struct {
	// A is [M,K], or stored as [K,M] when TransA.
	A      Mat
	TransA bool
	// The right operand is W if it is not nil, else B: [K,N], or stored as [N,K]
	// when TransB (the weight of a linear layer: Rows = out = N, Cols = in = K).
	B      Mat
	W      *Weight
	TransB bool
	// Scale multiplies the product; 0 means 1.
	Scale float32
	// Joined adds the right operand, times Scale, to that of the term before as both
	// are packed: the product of A with a sum of matrices costs one product. A is not
	// read; it is that of the term before, whose Scale multiplies the sum.
	Joined bool
}

// Gemm computes C = sum of terms, or adds the sum to C when accumulate is true.
// The terms are laid end to end along K, so that a low-rank term costs no
// second pass over C. All arithmetic is float32. Work is split over rows and
// columns of C, never over K: the bits do not depend on the number of threads.
//
// C must not overlap an operand. Shapes that do not fit are a mistake of the
// caller and panic.
func Gemm(c Mat, accumulate bool, terms ...Term) {
	checkMat("C", c)
	k := 0
	for i := range terms {
		if terms[i].Joined {
			terms[i].checkJoined(i, terms)
			continue
		}
		k += terms[i].check(i, c)
	}
	if c.Rows == 0 || c.Cols == 0 {
		return
	}
	if k == 0 {
		if !accumulate {
			for i := range c.Rows {
				clear(c.Row(i))
			}
		}
		return
	}
	g := gemmCalls.Get().(*gemmCall)
	g.init(c, accumulate, terms)
	if c.Rows <= gemvRows {
		g.vector()
	} else {
		g.matrix()
	}
	g.release()
	gemmCalls.Put(g)
}

var gemmCalls = sync.Pool{New: func() any { return new(gemmCall) }}

// check panics unless the term fits C and its storage; it returns K.
func (t *Term) check(i int, c Mat) int {
	checkMat("A", t.A)
	m, k := t.A.Rows, t.A.Cols
	if t.TransA {
		m, k = k, m
	}
	kb, n := t.right()
	if k != kb || m != c.Rows || n != c.Cols {
		panic(fmt.Sprintf("kernels: Gemm term %d: op(A) is [%d,%d], op(B) is [%d,%d], C is [%d,%d]",
			i, m, k, kb, n, c.Rows, c.Cols))
	}
	return k
}

// checkJoined panics unless the right operand has the size of that before.
func (t *Term) checkJoined(i int, terms []Term) {
	if i == 0 {
		panic("kernels: Gemm term 0 is joined to none")
	}
	k, n := terms[i-1].right()
	if kb, nb := t.right(); kb != k || nb != n {
		panic(fmt.Sprintf("kernels: Gemm term %d: op(B) is [%d,%d], joined to [%d,%d]", i, kb, nb, k, n))
	}
}

// right checks the storage of the right operand and returns the size of op(B).
func (t *Term) right() (kb, n int) {
	if w := t.W; w != nil {
		w.check()
		kb, n = w.Rows, w.Cols
	} else {
		checkMat("B", t.B)
		kb, n = t.B.Rows, t.B.Cols
	}
	if t.TransB {
		kb, n = n, kb
	}
	return kb, n
}

func checkMat(name string, m Mat) {
	switch {
	case m.Rows < 0 || m.Cols < 0 || m.Stride < m.Cols && m.Rows > 1:
		panic(fmt.Sprintf("kernels: matrix %s is [%d,%d] with stride %d", name, m.Rows, m.Cols, m.Stride))
	case m.Rows > 0 && m.Cols > 0 && len(m.Data) < (m.Rows-1)*m.Stride+m.Cols:
		panic(fmt.Sprintf("kernels: matrix %s is [%d,%d] with stride %d but holds %d elements",
			name, m.Rows, m.Cols, m.Stride, len(m.Data)))
	}
}

func (w *Weight) check() {
	rows := w.Rows
	if w.Perm != nil {
		if len(w.Perm) < w.Rows {
			panic(fmt.Sprintf("kernels: weight of %d rows has a permutation of %d", w.Rows, len(w.Perm)))
		}
		rows = 0 // stored rows are checked when they are sliced
	}
	if w.Block < 1 || w.Cols%w.Block != 0 || w.Cols/w.Block*w.BlockBytes > w.RowBytes && w.Rows > 0 ||
		rows > 0 && len(w.Data) < (rows-1)*w.RowBytes+w.Cols/w.Block*w.BlockBytes {
		panic(fmt.Sprintf("kernels: weight [%d,%d] in blocks of %d (%d bytes) and rows of %d bytes does not fit %d bytes",
			w.Rows, w.Cols, w.Block, w.BlockBytes, w.RowBytes, len(w.Data)))
	}
}
