// Package lanes computes what the vector tiers compute, to the bit, in plain Go: their
// order of summation, their fused multiply-adds and their exponential. It shows on any
// CPU what the numbers of another are. It is slow.
//
// The routines in vec.go are written by kernels/_gen from the same description as the
// assembly.
package lanes

import "math"

// Tier is one vector tier.
type Tier struct {
	width int  // lanes of a vector
	neon  bool // maxima pass NaN on, sums are of neighbours, the last elements are padded to a vector
	wide  bool // one instruction scales by a power of two
}

// The tiers, by the names of package kernels.
var (
	AVX2   = &Tier{width: 8}
	AVX512 = &Tier{width: 16, wide: true}
	NEON   = &Tier{width: 4, neon: true}
)

// FMA is a*b+c, rounded once to float32.
func FMA(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c) // the product is exact
	s := p + z
	// The sum was rounded to 53 bits. Only where it now lies half way between two
	// float32 values, or below their normal range, can rounding again go wrong.
	if bits := math.Float64bits(s); bits&0x1fffffff == 0x10000000 || math.Abs(s) < 0x1p-126 {
		if back := s - p; !math.IsInf(s, 0) && s == s {
			// What was lost (Knuth's two-sum): the last bit, if it is 0, moves that way.
			if lost := (p - (s - back)) + (z - back); lost != 0 && bits&1 == 0 {
				if (lost > 0) == (s > 0) {
					s = math.Float64frombits(bits | 1)
				} else {
					s = math.Float64frombits(bits - 1)
				}
			}
		}
	}
	return float32(s)
}

// Gemm4x4 is generic.Gemm4x4 with fused multiply-adds: on every vector tier an element of
// a product is one chain of them, whatever the size of the tile.
func Gemm4x4(k int, a, b, c []float32, ldc int, add bool) {
	a, b = a[:4*k], b[:4*k]
	for i := range 4 {
		row := c[i*ldc : i*ldc+4]
		for j := range row {
			var s float32
			for p := range k {
				s = FMA(a[4*p+i], b[4*p+j], s)
			}
			if add {
				s += row[j]
			}
			row[j] = s
		}
	}
}

// max is MAXPS, the second operand unless the first is larger, or FMAX.
func (t *Tier) max(a, b float32) float32 {
	if t.neon {
		return max(a, b)
	}
	if a > b {
		return a
	}
	return b
}

func (t *Tier) sum(a, b float32) float32 { return a + b }

// scale2 is p*2^n: rounded once where an instruction does it, else in two steps.
func (t *Tier) scale2(p, n float32) float32 {
	if n != n || p != p {
		return p
	}
	if t.wide {
		return float32(math.Ldexp(float64(p), int(n)))
	}
	low := int(n) >> 1
	return float32(float32(p*power(low)) * power(int(n)-low))
}

func power(n int) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// accumulators are up to four vectors.
type accumulators [4][16]float32

func start(v float32) (acc accumulators) {
	for u := range acc {
		for j := range acc[u] {
			acc[u][j] = v
		}
	}
	return acc
}

// copies is the number of vectors that the next round of a loop takes.
func (t *Tier) copies(left, unroll int) int {
	if left >= unroll*t.width {
		return unroll
	}
	return 1
}

// fold reduces the accumulators in the order of the assembly.
func (t *Tier) fold(acc *accumulators, vectors int, op func(a, b float32) float32) float32 {
	for n := vectors; n > 1; n /= 2 {
		for u := range n / 2 {
			for j := range t.width {
				acc[u][j] = op(acc[u][j], acc[u+n/2][j])
			}
		}
	}
	a := &acc[0]
	if t.neon {
		return op(op(a[0], a[1]), op(a[2], a[3]))
	}
	for n := t.width / 2; n > 0; n /= 2 {
		for j := range n {
			a[j] = op(a[j], a[j+n])
		}
	}
	return a[0]
}
