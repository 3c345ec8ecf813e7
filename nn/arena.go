package nn

import "sort"

// arena hands out float32 memory from large chunks that are never given back
// and never cleared. Freed blocks join their free neighbours, so the next
// request of about that size takes the same place.
type arena struct {
	chunks []chunk
	inUse  int // elements handed out
	peak   int
	// poison, for tests, fills memory that is not in use with NaN.
	poison bool
}

type chunk struct {
	mem  []float32
	free []gap // sorted by offset, never adjacent
}

type gap struct{ off, n int }

// block is a piece of a chunk; n is 0 for none.
type block struct{ chunk, off, n int }

const (
	arenaAlign = 32       // elements: two cache lines
	chunkSize  = 8 << 20  // elements: 32 MiB
	maxChunk   = 64 << 20 // elements: 256 MiB
)

// alloc returns n elements of undefined contents: the smallest gap that holds
// them, the first of equals.
func (a *arena) alloc(n int) ([]float32, block) {
	if n == 0 {
		return []float32{}, block{}
	}
	size := (n + arenaAlign - 1) &^ (arenaAlign - 1)
	best, bc, bg := 0, -1, -1
	for c := range a.chunks {
		for g, f := range a.chunks[c].free {
			if f.n >= size && (bc < 0 || f.n < best) {
				best, bc, bg = f.n, c, g
			}
		}
	}
	if bc < 0 {
		// A block does not cross chunks, so few large ones waste less.
		want := max(chunkSize, min(a.mapped(), maxChunk), size)
		mem := newChunk(want)
		if a.poison {
			poisonFill(mem)
		}
		a.chunks = append(a.chunks, chunk{mem: mem, free: []gap{{0, len(mem)}}})
		bc, bg = len(a.chunks)-1, 0
	}
	ch := &a.chunks[bc]
	f := &ch.free[bg]
	b := block{bc, f.off, size}
	f.off += size
	f.n -= size
	if f.n == 0 {
		ch.free = append(ch.free[:bg], ch.free[bg+1:]...)
	}
	a.inUse += size
	a.peak = max(a.peak, a.inUse)
	return ch.mem[b.off : b.off+n : b.off+size], b
}

// release returns a block.
func (a *arena) release(b block) {
	if b.n == 0 {
		return
	}
	ch := &a.chunks[b.chunk]
	if a.poison {
		poisonFill(ch.mem[b.off : b.off+b.n])
	}
	a.inUse -= b.n
	i := sort.Search(len(ch.free), func(i int) bool { return ch.free[i].off > b.off })
	left := i > 0 && ch.free[i-1].off+ch.free[i-1].n == b.off
	right := i < len(ch.free) && b.off+b.n == ch.free[i].off
	switch {
	case left && right:
		ch.free[i-1].n += b.n + ch.free[i].n
		ch.free = append(ch.free[:i], ch.free[i+1:]...)
	case left:
		ch.free[i-1].n += b.n
	case right:
		ch.free[i].off = b.off
		ch.free[i].n += b.n
	default:
		ch.free = append(ch.free, gap{})
		copy(ch.free[i+1:], ch.free[i:])
		ch.free[i] = gap{b.off, b.n}
	}
}

// reset takes everything back.
func (a *arena) reset() {
	for c := range a.chunks {
		ch := &a.chunks[c]
		if a.poison { // what is between the gaps; they have it already
			at := 0
			for _, f := range ch.free {
				poisonFill(ch.mem[at:f.off])
				at = f.off + f.n
			}
			poisonFill(ch.mem[at:])
		}
		ch.free = append(ch.free[:0], gap{0, len(ch.mem)})
	}
	a.inUse = 0
}

// mapped returns the elements of all chunks.
func (a *arena) mapped() int {
	n := 0
	for i := range a.chunks {
		n += len(a.chunks[i].mem)
	}
	return n
}

// close gives all chunks back to the system.
func (a *arena) close() {
	for i := range a.chunks {
		freeChunk(a.chunks[i].mem)
	}
	*a = arena{poison: a.poison}
}

func poisonFill(x []float32) {
	for i := range x {
		x[i] = quietNaN
	}
}
