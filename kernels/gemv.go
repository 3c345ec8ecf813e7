package kernels

// vector computes a product with few rows, where reading op(B) is all the work:
// it is read once, in the order it is stored, and not packed.
func (g *gemmCall) vector() {
	m := g.m
	g.packed = grow(g.packed, m*g.k)
	for x := range g.terms {
		t := &g.terms[x]
		kt := t.k1 - t.k0
		for i := range m {
			// Row i of term x lies at m*k0 + i*kt.
			row := g.packed[m*t.k0+i*kt:][:kt]
			if t.TransA {
				for p := range row {
					row[p] = t.Scale * t.A.Data[p*t.A.Stride+i]
				}
			} else {
				copy(row, t.A.Row(i))
				if t.Scale != 1 {
					Scale(row, t.Scale)
				}
			}
		}
	}
	const grain = 32
	chunk := roundUp(ceilDiv(g.n, 8*Threads()), grain)
	g.start(stepVector, g.n, min(chunk, 512))
}

// vectorColumns computes columns j0 to j1 of all rows.
func (g *gemmCall) vectorColumns(s *scratch, j0, j1 int) {
	m := g.m
	if !g.add {
		for i := range m {
			clear(g.c.Row(i)[j0:j1])
		}
	}
	for x := range g.terms {
		t := &g.terms[x]
		kt := t.k1 - t.k0
		a := g.packed[m*t.k0:]
		b, direct := t.B, true
		if t.W != nil {
			b, direct = t.W.float32Mat()
		}
		if t.TransB {
			for j := j0; j < j1; j++ {
				var row []float32
				if direct {
					row = b.Data[j*b.Stride:][:kt]
				} else {
					s.decode = grow(s.decode, kt)
					row = s.decode
					t.W.decode(row, j, 0)
				}
				for i := range m {
					g.c.Data[i*g.c.Stride+j] += Dot(a[i*kt:][:kt], row)
				}
			}
			continue
		}
		for p := range kt {
			var row []float32
			if direct {
				row = b.Data[p*b.Stride+j0:][:j1-j0]
			} else {
				w := t.W
				lo := j0 / w.Block * w.Block
				hi := min(roundUp(j1, w.Block), w.Cols)
				s.decode = grow(s.decode, hi-lo)
				w.decode(s.decode, p, lo)
				row = s.decode[j0-lo:][:j1-j0]
			}
			for i := range m {
				Axpy(a[i*kt+p], row, g.c.Row(i)[j0:j1])
			}
		}
	}
}
