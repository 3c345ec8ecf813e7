package kernels

import "github.com/peftkit/peftkit/kernels/lanes"

// columns does columns j0 to j1 of C in the current round: block by block of K it
// packs op(B), unless that is done, and runs all panels of op(A) over it.
func (g *gemmCall) columns(s *scratch, j0, j1 int) {
	np := ceilDiv(j1-j0, g.nr)
	for b0 := g.b0; b0 < g.b1; b0 += g.kc {
		kb := min(g.kc, g.b1-b0)
		var b []float32
		if g.deep {
			b = g.packedB[roundUp(g.n, g.nr)*(b0-g.b0)+j0*kb:]
		} else {
			s.panel = grow(s.panel, np*g.nr*kb)
			b = s.panel
			g.packB(s, b, g.nr*kb, j0, j1, b0, b0+kb)
		}
		a := g.packed[(g.i1-g.i0)*(b0-g.b0):]
		for i := g.i0; i < g.i1; i += g.mr {
			g.tiles(s, a[(i-g.i0)*kb:], b, i, j0, j1, kb, g.add || b0 > 0)
		}
	}
}

// packLinesB packs lines k0 to k1 of op(B), all columns, for a deep product.
func (g *gemmCall) packLinesB(s *scratch, k0, k1 int) {
	for k0 < k1 {
		b0 := k0 / g.kc * g.kc
		kb := min(g.kc, g.k-b0)
		end := min(k1, b0+kb)
		at := roundUp(g.n, g.nr)*(b0-g.b0) + (k0-b0)*g.nr
		g.packB(s, g.packedB[at:], g.nr*kb, 0, g.n, k0, end)
		k0 = end
	}
}

// rowGroup is the number of panels of rows that rows packs at a time.
const rowGroup = 8

// rows computes panels p0 to p1 of the rows of a narrow C, packing op(A) as it goes.
func (g *gemmCall) rows(s *scratch, p0, p1 int) {
	nPad := roundUp(g.n, g.nr)
	s.panel = grow(s.panel, rowGroup*g.mr*g.kc)
	for p := p0; p < p1; p += rowGroup {
		i0, i1 := p*g.mr, min(min(p+rowGroup, p1)*g.mr, g.m)
		for b0 := 0; b0 < g.k; b0 += g.kc {
			kb := min(g.kc, g.k-b0)
			g.packA(s.panel, i0, i1, b0, b0+kb)
			for i := i0; i < i1; i += g.mr {
				g.tiles(s, s.panel[(i-i0)*kb:], g.packed[nPad*b0:], i, 0, g.n, kb, g.add || b0 > 0)
			}
		}
	}
}

// tiles multiplies one panel of op(A) (rows from i) with the panels b of columns
// j0 to j1.
func (g *gemmCall) tiles(s *scratch, a, b []float32, i, j0, j1, kb int, add bool) {
	rows := min(g.mr, g.m-i)
	ldc := g.c.Stride
	for j := j0; j < j1; j += g.nr {
		cols := min(g.nr, j1-j)
		kr, kn := kernelShape(g.lv, rows, cols)
		c := g.c.Data[i*ldc+j:]
		if kr == rows && kn == cols {
			g.micro(kr, kn, kb, a, b, c, ldc, add)
		} else {
			// The same sums in a tile of their own; only the part inside C is kept.
			s.tile = grow(s.tile, kr*kn)
			g.micro(kr, kn, kb, a, b, s.tile, kn, false)
			for r := range rows {
				dst, src := c[r*ldc:r*ldc+cols], s.tile[r*kn:r*kn+cols]
				if add {
					for x, v := range src {
						dst[x] += v
					}
				} else {
					copy(dst, src)
				}
			}
		}
		if j+g.nr < j1 {
			b = b[g.nr*kb:]
		}
	}
}

// micro runs the kernel of shape rows x cols, which kernelShape returned.
func (g *gemmCall) micro(rows, cols, k int, a, b, c []float32, ldc int, add bool) {
	if g.model != nil {
		lanes.Gemm4x4(k, a, b, c, ldc, add)
		return
	}
	micro(g.lv, rows, cols, k, a, b, c, ldc, add)
}
