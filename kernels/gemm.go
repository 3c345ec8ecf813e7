package kernels

import "fmt"

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
}

// shape returns M, K and N of the product.
func (t *Term) shape() (m, k, n int, err error) {
	m, k = t.A.Rows, t.A.Cols
	if t.TransA {
		m, k = k, m
	}
	kb, n := t.B.Rows, t.B.Cols
	if t.W != nil {
		kb, n = t.W.Rows, t.W.Cols
	}
	if t.TransB {
		kb, n = n, kb
	}
	if k != kb {
		return 0, 0, 0, fmt.Errorf("inner sizes differ: op(A) is [%d,%d], op(B) is [%d,%d]", m, k, kb, n)
	}
	return m, k, n, nil
}

// Gemm computes C = sum of terms, or adds the sum to C when accumulate is true.
// All arithmetic is float32. Work is split over rows and columns of C, never
// over K, so that the bits do not depend on the number of threads. C must not
// overlap an operand. Shapes that do not fit are a mistake of the caller and
// panic.
func Gemm(c Mat, accumulate bool, terms ...Term) {
	for i := range terms {
		m, _, n, err := terms[i].shape()
		if err == nil && (m != c.Rows || n != c.Cols) {
			err = fmt.Errorf("the product is [%d,%d], C is [%d,%d]", m, n, c.Rows, c.Cols)
		}
		if err != nil {
			panic(fmt.Sprintf("kernels: Gemm term %d: %v", i, err))
		}
	}
	gemmSimple(c, accumulate, terms)
}

func gemmSimple(c Mat, accumulate bool, terms []Term) {
	if !accumulate {
		for i := range c.Rows {
			clear(c.Row(i))
		}
	}
	for i := range terms {
		t := &terms[i]
		s := t.Scale
		if s == 0 {
			s = 1
		}
		b := t.B
		if t.W != nil {
			b = NewMat(t.W.Rows, t.W.Cols)
			for r := range b.Rows {
				sr := r
				if t.W.Perm != nil {
					sr = int(t.W.Perm[r])
				}
				t.W.Decode(b.Row(r), t.W.Data[sr*t.W.RowBytes:(sr+1)*t.W.RowBytes])
			}
		}
		_, k, n, _ := t.shape()
		Parallel(c.Rows, 1, func(lo, hi int) {
			row := make([]float32, k)
			for i := lo; i < hi; i++ {
				for p := range row {
					if t.TransA {
						row[p] = s * t.A.Data[p*t.A.Stride+i]
					} else {
						row[p] = s * t.A.Data[i*t.A.Stride+p]
					}
				}
				ci := c.Row(i)
				if t.TransB {
					for j := range n {
						ci[j] += Dot(row, b.Row(j))
					}
				} else {
					for p, v := range row {
						Axpy(v, b.Row(p), ci)
					}
				}
			}
		})
	}
}
