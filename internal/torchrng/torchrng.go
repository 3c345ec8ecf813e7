// Package torchrng draws the random numbers that PyTorch draws on CPUs from the
// same seed, bit by bit, so that what a library of Python makes from a seed and
// does not save (the projections of VeRA, the frequencies of FourierFT) is made
// again.
//
// The numbers are those of PyTorch's vectorised builds for x86-64, which fuse
// multiplications and additions. The Mersenne Twister is of Matsumoto and
// Nishimura 1998; how PyTorch turns its words into numbers was read from ATen
// (core/DistributionsHelper.h, native/cpu/DistributionTemplates.h,
// native/TensorFactories.cpp).
package torchrng

import (
	"fmt"
	"math"
	"slices"
)

const (
	words = 624 // of the state
	shift = 397
)

// Generator is a torch.Generator for CPUs. It is not safe for concurrent use.
type Generator struct {
	state [words]uint32
	next  int

	// normal_ on fewer than 16 elements draws pairs and keeps the second.
	spare    float64
	hasSpare bool
}

// New returns what torch.Generator().manual_seed(seed) is, or the default
// generator after torch.manual_seed. Only the low 32 bits of the seed count.
func New(seed uint64) *Generator {
	g := new(Generator)
	g.Seed(seed)
	return g
}

// Seed starts again, as manual_seed.
func (g *Generator) Seed(seed uint64) {
	*g = Generator{next: words}
	s := uint32(seed)
	for i := range g.state {
		g.state[i] = s
		s = 1812433253*(s^s>>30) + uint32(i+1)
	}
}

// refill makes the next words of the state.
func (g *Generator) refill() {
	s := &g.state
	for i := range s {
		y := s[i]&0x80000000 | s[(i+1)%words]&0x7fffffff
		s[i] = s[(i+shift)%words] ^ y>>1 ^ 0x9908b0df*(y&1)
	}
	g.next = 0
}

// Uint32 returns the next 32 random bits.
func (g *Generator) Uint32() uint32 {
	if g.next == words {
		g.refill()
	}
	y := g.state[g.next]
	g.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Uint64 returns the next 64 random bits, the high half drawn first.
func (g *Generator) Uint64() uint64 {
	hi := uint64(g.Uint32())
	return hi<<32 | uint64(g.Uint32())
}

// Float32 returns the next element of torch.rand: a multiple of 2^-24 in [0, 1).
func (g *Generator) Float32() float32 { return float32(g.Uint32()&(1<<24-1)) * 0x1p-24 }

// Float64 returns the next element of torch.rand(dtype=torch.float64).
func (g *Generator) Float64() float64 { return float64(g.Uint64()&(1<<53-1)) * 0x1p-53 }

// Uniform fills dst as tensor.uniform_(from, to) of a float32 tensor.
func (g *Generator) Uniform(dst []float32, from, to float64) {
	lo := float32(from)
	width := float32(to) - lo
	for i := range dst {
		dst[i] = fma32(g.Float32(), width, lo)
	}
}

// Uniform64 fills dst as tensor.uniform_(from, to) of a float64 tensor.
func (g *Generator) Uniform64(dst []float64, from, to float64) {
	for i := range dst {
		dst[i] = math.FMA(g.Float64(), to-from, from)
	}
}

// KaimingUniform fills dst as torch.nn.init.kaiming_uniform_(tensor, a) does for
// leaky ReLU with slope a and fanIn inputs: a = 0 is PyTorch's default, a =
// sqrt(5) the initialisation of torch.nn.Linear's weight and of LoRA's A.
func (g *Generator) KaimingUniform(dst []float32, fanIn int, a float64) {
	std := math.Sqrt(2/(1+a*a)) / math.Sqrt(float64(fanIn))
	bound := math.Sqrt(3) * std
	g.Uniform(dst, -bound, bound)
}

// Randperm returns torch.randperm(n, generator=g). n < 0 panics.
func (g *Generator) Randperm(n int64) []int64 {
	if n < 0 {
		panic(fmt.Sprintf("torchrng: Randperm of %d", n))
	}
	p := make([]int64, n)
	if n >= math.MaxUint32/20 {
		// 32 bits would favour some: the inside-out shuffle from 64.
		for i := range p {
			j := g.Uint64() % uint64(i+1)
			p[i] = p[j]
			p[j] = int64(i)
		}
		return p
	}
	for i := range p {
		p[i] = int64(i)
	}
	for i := int64(0); i < n-1; i++ {
		j := i + int64(uint64(g.Uint32())%uint64(n-i))
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// RandpermFirst returns the first k elements of torch.randperm(n, generator=g) and
// leaves the generator elsewhere than that. PyTorch shuffles forward while n is small
// enough for that, so that they are known after k swaps. k > n panics.
func (g *Generator) RandpermFirst(n, k int64) []int64 {
	if k < 0 || k > n {
		panic(fmt.Sprintf("torchrng: the first %d of a permutation of %d", k, n))
	}
	if n >= math.MaxUint32/20 {
		return slices.Clone(g.Randperm(n)[:k]) // the rest is large
	}
	moved := map[int64]int64{}
	at := func(i int64) int64 {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	out := make([]int64, k)
	for i := range k {
		j := i
		if i < n-1 {
			j += int64(uint64(g.Uint32()) % uint64(n-i))
		}
		out[i] = at(j)
		moved[j] = at(i)
	}
	return out
}

// fma32 returns a*b+c rounded once.
func fma32(a, b, c float32) float32 {
	p, d := float64(a)*float64(b), float64(c) // p is exact
	s := p + d
	t := s - p
	if e := (p - (s - t)) + (d - t); e != 0 {
		// Rounding to odd keeps the second rounding from seeing a false tie.
		if bits := math.Float64bits(s); bits&1 == 0 {
			if (e > 0) == (s > 0) {
				bits++
			} else {
				bits--
			}
			s = math.Float64frombits(bits)
		}
	}
	return float32(s)
}
