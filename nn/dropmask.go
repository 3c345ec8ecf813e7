package nn

import "math"

// dropMask is the mask of one dropout operation: what it does to an element
// depends on the element's index alone.
type dropMask struct {
	key   uint64
	limit uint32  // of 65536
	keep  float32 // what a kept element is multiplied by
}

// draw returns the bits of the next dropout operation.
func (t *Tape) draw() uint64 {
	t.draws++
	return mix(t.Seed ^ mix(t.draws))
}

// drops reports whether networks leave out a share of p now.
func (t *Tape) drops(p float64) bool { return t.Train && t.BaseDropout && p > 0 }

// newMask draws a mask that drops with probability p.
func (t *Tape) newMask(p float32) dropMask {
	m := dropMask{key: t.draw(), limit: uint32(math.Round(math.Min(float64(p), 1) * 65536))}
	if p < 1 {
		m.keep = 1 / (1 - p)
	}
	return m
}

// row returns a mask of its own for row r, whose elements count from 0.
func (m dropMask) row(r int) dropMask {
	m.key = mix(m.key ^ mix(uint64(r)))
	return m
}

// to writes masked elements of src, whose indices begin at first, to dst.
// One hash serves four elements, 16 bits each.
func (m dropMask) to(dst, src []float32, first int) {
	gain := [2]float32{1: m.keep}
	for i := 0; i < len(dst); {
		h, lane := m.hash(first + i)
		for ; lane < 4 && i < len(dst); lane, i = lane+1, i+1 {
			dst[i] = src[i] * gain[kept(h, m.limit)]
			h >>= 16
		}
	}
}

// add is to, added to what dst holds.
func (m dropMask) add(dst, src []float32, first int) {
	gain := [2]float32{1: m.keep}
	for i := 0; i < len(dst); {
		h, lane := m.hash(first + i)
		for ; lane < 4 && i < len(dst); lane, i = lane+1, i+1 {
			dst[i] += src[i] * gain[kept(h, m.limit)]
			h >>= 16
		}
	}
}

// hash returns the bits of element i, lowest first, and its place among the four
// elements that share them.
func (m dropMask) hash(i int) (bits uint64, lane int) {
	lane = i & 3
	return mix(m.key+uint64(i)>>2) >> (16 * lane), lane
}

// kept is 1 when the low 16 bits of h are at least limit.
func kept(h uint64, limit uint32) uint32 { return 1 ^ (uint32(h&0xffff)-limit)>>31 }

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
