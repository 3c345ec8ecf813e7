package kernels

import (
	"encoding/binary"
	"unsafe"
)

// packLines is the number of lines of an operand that are copied into panels at a
// time. A panel takes less than a cache line or two of each: all panels take
// their part while the lines are in the L1 cache.
const packLines = 16

// packA writes panels of op(A), those of rows i0 to i1, k from k0 to k1, times the
// scale of each term: panel q at dst[q*mr*(k1-k0)], in it
// dst[(k-k0)*mr+r] = scale * op(A)[i0+q*mr+r, k], 0 below the last row.
func (g *gemmCall) packA(dst []float32, i0, i1, k0, k1 int) {
	i1 = min(i1, g.m)
	step := g.mr * (k1 - k0)
	for x := range g.terms {
		t := &g.terms[x]
		lo, hi := max(k0, t.k0), min(k1, t.k1)
		if lo >= hi || t.Joined {
			continue
		}
		off := (lo - k0) * g.mr
		from, to := lo-t.k0, hi-t.k0
		if t.TransA {
			packLinesOf(g.lv, dst[off:], step, t.A.Data[from*t.A.Stride+i0:], t.A.Stride, to-from, i1-i0, g.mr, t.Scale)
			continue
		}
		for i := i0; i < i1; i += g.mr {
			packRows(g.lv, dst[off:], t.A.Data[i*t.A.Stride+from:], t.A.Stride, min(g.mr, i1-i), to-from, g.mr, t.Scale)
			off += step
		}
	}
}

// packLinesOf copies k lines of n elements into panels of the given width, step
// apart: dst[q*step+p*width+i] = scale*src[p*ld+q*width+i].
func packLinesOf(lv level, dst []float32, step int, src []float32, ld, k, n, width int, scale float32) {
	for p := 0; p < k; p += packLines {
		lines := min(packLines, k-p)
		off := p * width
		for j := 0; j < n; j += width {
			packColumns(lv, dst[off:], src[p*ld+j:], ld, lines, min(width, n-j), width, scale)
			off += step
		}
	}
}

// packB writes the panels of columns j0 to j1 of op(B), k from k0 to k1: panel q
// at dst[q*step], in it dst[(k-k0)*nr+j].
func (g *gemmCall) packB(s *scratch, dst []float32, step, j0, j1, k0, k1 int) {
	for x := range g.terms {
		t := &g.terms[x]
		lo, hi := max(k0, t.k0), min(k1, t.k1)
		if lo >= hi {
			continue
		}
		part := dst[(lo-k0)*g.nr:]
		if t.Joined {
			g.joinB(s, t, part, step, j0, j1, lo-t.k0, hi-t.k0)
		} else {
			g.packTerm(s, t, part, step, j0, j1, lo-t.k0, hi-t.k0)
		}
	}
}

// joinB adds a joined operand, times its scale, to panels that hold that before.
func (g *gemmCall) joinB(s *scratch, t *gemmTerm, dst []float32, step, j0, j1, from, to int) {
	const group = 4 // panels: pieces of lines long enough to read on
	own := g.nr * (to - from)
	s.joined = grow(s.joined, group*own)
	for j0 < j1 {
		end := min(j0+group*g.nr, j1)
		g.packTerm(s, t, s.joined, own, j0, end, from, to)
		for q := range ceilDiv(end-j0, g.nr) {
			Axpy(t.Scale, s.joined[q*own:(q+1)*own], dst[q*step:])
		}
		if j0 = end; j0 < j1 {
			dst = dst[group*step:]
		}
	}
}

// packTerm writes the panels of columns j0 to j1, lines from to to, of the right
// operand of one term: panel q at dst[q*step].
func (g *gemmCall) packTerm(s *scratch, t *gemmTerm, dst []float32, step, j0, j1, from, to int) {
	b, direct := t.B, true
	if t.W != nil {
		b, direct = t.W.float32Mat()
	}
	off := 0
	switch {
	case direct && t.TransB:
		for j := j0; j < j1; j += g.nr {
			packRows(g.lv, dst[off:], b.Data[j*b.Stride+from:], b.Stride, min(g.nr, j1-j), to-from, g.nr, 1)
			off += step
		}
	case direct:
		packLinesOf(g.lv, dst[off:], step, b.Data[from*b.Stride+j0:], b.Stride, to-from, j1-j0, g.nr, 1)
	case t.TransB:
		for j := j0; j < j1; j += g.nr {
			g.packWeightRows(s, dst[off:], t.W, j, min(j+g.nr, j1), from, to)
			off += step
		}
	default:
		g.packWeightColumns(s, dst[off:], step, t.W, j0, j1, from, to)
	}
}

// packWeightRows packs rows j0 to j1 of a stored weight, elements from to to of
// each, as one panel of op(B) = transposed W.
func (g *gemmCall) packWeightRows(s *scratch, dst []float32, w *Weight, j0, j1, from, to int) {
	// A few rows by 256 elements at a time stay in the L1 cache.
	const span, rows = 256, 16
	for k := from; k < to; {
		a := k / w.Block * w.Block
		end := min(roundUp(max(a+span, k+1), w.Block), w.Cols)
		ld := end - a
		stop := min(end, to)
		for j := j0; j < j1; j += rows {
			n := min(rows, j1-j)
			s.decode = grow(s.decode, rows*ld)
			for r := range n {
				w.decode(s.decode[r*ld:(r+1)*ld], j+r, a)
			}
			// The last strip also clears the rest of the panel.
			width := g.nr - (j - j0)
			packStrip(g.lv, dst[(k-from)*g.nr+j-j0:], s.decode[k-a:], ld, n, stop-k, g.nr, j+rows >= j1, width)
		}
		k = stop
	}
}

// packStrip writes n rows of a panel whose lines are nr long; if last, it clears
// the lines up to width behind them.
func packStrip(lv level, dst, src []float32, ld, n, k, nr int, last bool, width int) {
	packRowsPart(lv, dst, src, ld, n, k, nr, 1)
	if last && n < width {
		for p := range k {
			clear(dst[p*nr+n : p*nr+width])
		}
	}
}

// packWeightColumns packs columns j0 to j1 of rows from to to of a stored weight
// as panels of op(B) = W, step floats apart.
func (g *gemmCall) packWeightColumns(s *scratch, dst []float32, step int, w *Weight, j0, j1, from, to int) {
	a := j0 / w.Block * w.Block
	end := min(roundUp(j1, w.Block), w.Cols)
	ld := end - a
	s.decode = grow(s.decode, packLines*ld)
	for k := from; k < to; k += packLines {
		n := min(packLines, to-k)
		for r := range n {
			w.decode(s.decode[r*ld:(r+1)*ld], k+r, a)
		}
		packLinesOf(g.lv, dst[(k-from)*g.nr:], step, s.decode[j0-a:], ld, n, j1-j0, g.nr, 1)
	}
}

// decode expands elements a to a+len(dst) of logical row r; a and len(dst) are
// multiples of the block.
func (w *Weight) decode(dst []float32, r, a int) {
	if w.Perm != nil {
		r = int(w.Perm[r])
	}
	at := r*w.RowBytes + a/w.Block*w.BlockBytes
	w.Decode(dst, w.Data[at:at+len(dst)/w.Block*w.BlockBytes])
}

var littleEndian = func() bool {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], 1)
	return b[0] == 1
}()

// float32Mat views a float32 weight as a matrix if it lies in memory as one.
func (w *Weight) float32Mat() (Mat, bool) {
	if !w.Float32 || w.Perm != nil || !littleEndian || w.RowBytes%4 != 0 || len(w.Data) == 0 {
		return Mat{}, false
	}
	p := unsafe.Pointer(unsafe.SliceData(w.Data))
	if uintptr(p)%4 != 0 {
		return Mat{}, false
	}
	return Mat{Data: unsafe.Slice((*float32)(p), len(w.Data)/4), Rows: w.Rows, Cols: w.Cols, Stride: w.RowBytes / 4}, true
}

// packRows transposes rows into a panel: dst[p*width+i] = scale*src[i*ld+p] for
// p < k and i < rows, 0 for i from rows to width.
func packRows(lv level, dst, src []float32, ld, rows, k, width int, scale float32) {
	packRowsPart(lv, dst, src, ld, rows, k, width, scale)
	if rows < width {
		for p := range k {
			clear(dst[p*width+rows : (p+1)*width])
		}
	}
}

// packRowsPart is packRows without the zeros.
func packRowsPart(lv level, dst, src []float32, ld, rows, k, width int, scale float32) {
	// Strips of rows write to the same cache lines of the panel: a stretch of it
	// that fits the L1 cache is finished before the next.
	const stretch = 128
	for k0 := 0; k0 < k; k0 += stretch {
		n := min(stretch, k-k0)
		for i := 0; i < rows; {
			d, s := dst[k0*width+i:], src[i*ld+k0:]
			strip, done := transposeStrip(lv, d, s, ld, rows-i, n, width, scale)
			for x := range strip {
				row := s[x*ld : x*ld+n]
				for p := done; p < n; p++ {
					d[p*width+x] = scale * row[p]
				}
			}
			i += strip
		}
	}
}

// packColumns copies lines into a panel: dst[p*width+i] = scale*src[p*ld+i] for
// p < k and i < cols, 0 for i from cols to width.
func packColumns(lv level, dst, src []float32, ld, k, cols, width int, scale float32) {
	if copyStrip(lv, dst, src, ld, k, cols, width, scale) {
		return
	}
	for p := range k {
		d, s := dst[p*width:(p+1)*width], src[p*ld:p*ld+cols]
		for i, v := range s {
			d[i] = scale * v
		}
		clear(d[cols:])
	}
}
