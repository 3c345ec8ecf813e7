// Package numpyrng draws the random numbers that numpy.random.default_rng draws from
// the same seed, so that what a library of Python makes from a seed and does not save
// (the indices of Uni-LoRA) is made again.
//
// The generator is PCG64 (O'Neill 2014, XSL-RR 128/64), seeded by numpy's SeedSequence;
// how numpy turns its words into numbers was read from numpy 2.4 (bit_generator.pyx,
// _generator.pyx, distributions.c: Lemire's bounded integers, masked ones for shuffles, Floyd's sampling).
package numpyrng

import "math/bits"

// Generator is a numpy.random.Generator over PCG64. It is not safe for concurrent use.
type Generator struct {
	state, inc [2]uint64 // high and low half
	half       uint32    // of a word whose other half was drawn
	hasHalf    bool
}

const (
	multHi, multLo = 0x2360ED051FC65DA4, 0x4385DF649FCCF645
	poolSize       = 4
)

// New returns default_rng(seed).
func New(seed uint64) *Generator {
	words := seedWords(seed)
	g := &Generator{inc: [2]uint64{words[2]<<1 | words[3]>>63, words[3]<<1 | 1}}
	g.step()
	lo, carry := bits.Add64(g.state[1], words[1], 0)
	g.state[0], _ = bits.Add64(g.state[0], words[0], carry)
	g.state[1] = lo
	g.step()
	return g
}

// seedWords is SeedSequence(seed).generate_state(4, uint64).
func seedWords(seed uint64) (out [4]uint64) {
	entropy := []uint32{uint32(seed)}
	if hi := uint32(seed >> 32); hi != 0 {
		entropy = append(entropy, hi)
	}
	h := uint32(0x43b0d7e5)
	hash := func(v uint32) uint32 {
		v ^= h
		h *= 0x931e8875
		v *= h
		return v ^ v>>16
	}
	var pool [poolSize]uint32
	for i := range pool {
		v := uint32(0)
		if i < len(entropy) {
			v = entropy[i]
		}
		pool[i] = hash(v)
	}
	for from := range pool {
		for to := range pool {
			if from != to {
				v := 0xca01f9dd*pool[to] - 0x4973f715*hash(pool[from])
				pool[to] = v ^ v>>16
			}
		}
	}
	h = 0x8b51f9dd
	for i := range 2 * len(out) {
		v := pool[i%poolSize] ^ h
		h *= 0x58f38ded
		v *= h
		v ^= v >> 16
		out[i/2] |= uint64(v) << (32 * (i % 2))
	}
	return out
}

// step moves the state on: state = state * multiplier + increment, modulo 2^128.
func (g *Generator) step() {
	hi, lo := bits.Mul64(g.state[1], multLo)
	hi += g.state[0]*multLo + g.state[1]*multHi
	lo, carry := bits.Add64(lo, g.inc[1], 0)
	hi, _ = bits.Add64(hi, g.inc[0], carry)
	g.state = [2]uint64{hi, lo}
}

// Uint64 returns the next 64 random bits.
func (g *Generator) Uint64() uint64 {
	g.step()
	return bits.RotateLeft64(g.state[0]^g.state[1], -int(g.state[0]>>58))
}

// uint32 returns the next 32 random bits: the low half of a word, then its high half.
func (g *Generator) uint32() uint32 {
	if g.hasHalf {
		g.hasHalf = false
		return g.half
	}
	v := g.Uint64()
	g.half, g.hasHalf = uint32(v>>32), true
	return uint32(v)
}

// upTo returns a number from 0 to last, all equally likely.
func (g *Generator) upTo(last uint32) uint32 {
	if last == 0 {
		return 0
	}
	n := last + 1
	m := uint64(g.uint32()) * uint64(n)
	if n != 0 && uint32(m) < n {
		for least := -n % n; uint32(m) < least; {
			m = uint64(g.uint32()) * uint64(n)
		}
	}
	return uint32(m >> 32)
}

// Shuffle is shuffle of an array of numbers. It throws away what is too large where
// Choice scales it.
func (g *Generator) Shuffle(x []int32) {
	for i := len(x) - 1; i > 0; i-- {
		mask := uint32(1)<<bits.Len32(uint32(i)) - 1
		j := g.uint32() & mask
		for j > uint32(i) {
			j = g.uint32() & mask
		}
		x[i], x[j] = x[j], x[i]
	}
}

// shuffle exchanges elements from the last down to the first.
func (g *Generator) shuffle(x []int32, first int) {
	for i := len(x) - 1; i >= first; i-- {
		j := g.upTo(uint32(i))
		x[i], x[j] = x[j], x[i]
	}
}

// Choice is choice(n, size, replace=False): size of the numbers below n in a random order.
// size is at most n.
func (g *Generator) Choice(n, size int) []int32 {
	if n > 10000 && size > n/50 {
		all := make([]int32, n)
		for i := range all {
			all[i] = int32(i)
		}
		g.shuffle(all, max(n-size, 1))
		return all[n-size:]
	}
	out, taken := make([]int32, 0, size), make(map[int32]bool, size)
	for j := n - size; j < n; j++ {
		v := int32(g.upTo(uint32(j)))
		if taken[v] {
			v = int32(j)
		}
		taken[v] = true
		out = append(out, v)
	}
	g.shuffle(out, 1)
	return out
}
