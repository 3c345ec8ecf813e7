package model

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/nn"
)

// Cache keeps the keys and values of growing sequences, layer by layer, so that
// each new token costs one row; and for an encoder-decoder model those of the
// source, so that the encoder runs once.
type Cache struct {
	max, width int       // rows of room for each sequence, features of a row
	k, v       []*nn.Var // per layer: [places*max, width]
	places     int
	// slots are the places of the sequences that are still written, lens the rows
	// that each place holds, adding those that the batch under way adds to them.
	slots, lens, adding []int
	cross               *crossCache
	beside              map[*Model]*Cache
}

// crossCache holds what the decoder sees of the sources.
type crossCache struct {
	spans []nn.Span // rows of each sequence's source
	k, v  []*nn.Var // per layer
}

// NewCache makes room for one sequence of max rows.
func (m *Model) NewCache(max int) *Cache { return m.NewBatchCache(1, max) }

// NewBatchCache makes room for sequences of max rows each. Only families whose
// attention goes through [Cache.Extend] can use more than one sequence.
func (m *Model) NewBatchCache(sequences, max int) *Cache {
	c := &Cache{max: max, width: m.KVSize, places: sequences, lens: make([]int, sequences)}
	for i := range sequences {
		c.slots = append(c.slots, i)
	}
	for range m.Layers {
		c.k, c.v = append(c.k, c.buffer(max)), append(c.v, c.buffer(max))
	}
	return c
}

func (c *Cache) buffer(max int) *nn.Var {
	return &nn.Var{Rows: c.places * max, Cols: c.width, Data: make([]float32, c.places*max*c.width)}
}

// Beside returns a cache of the same sequences for a method that runs m, another
// network or this one a second time, for each batch.
func (c *Cache) Beside(m *Model) *Cache {
	if c.beside[m] == nil {
		second := m.NewBatchCache(c.places, c.max)
		second.slots = slices.Clone(c.slots)
		if c.beside == nil {
			c.beside = map[*Model]*Cache{}
		}
		c.beside[m] = second
	}
	return c.beside[m]
}

// Len returns the number of rows held of the longest sequence: of its tokens
// and of what methods have put before them.
func (c *Cache) Len() int {
	n := 0
	for _, slot := range c.slots {
		n = max(n, c.lens[slot])
	}
	return n
}

// Grow makes room for max rows in all and keeps those that are held.
func (c *Cache) Grow(max int) {
	if max <= c.max {
		return
	}
	for _, side := range [][]*nn.Var{c.k, c.v} {
		for i, old := range side {
			x := c.buffer(max)
			for s := range c.places {
				copy(x.Data[s*max*c.width:], old.Data[s*c.max*c.width:(s*c.max+c.lens[s])*c.width])
			}
			side[i] = x
		}
	}
	c.max = max
}

// Room returns an error when k more rows do not fit.
func (c *Cache) Room(k int) error {
	if n := c.Len(); n+k > c.max {
		return fmt.Errorf("key/value cache of %d tokens is full: %d held, %d more wanted", c.max, n, k)
	}
	return nil
}

// Past returns the keys and values of layer that precede the one sequence of
// the batch; nil when the cache is empty. A family that uses it and Append in
// place of Extend cannot write several texts at once.
func (c *Cache) Past(layer int) (k, v *nn.Var) {
	n := c.lens[c.slots[0]]
	if n == 0 {
		return nil, nil
	}
	view := func(x *nn.Var) *nn.Var {
		at := c.slots[0] * c.max * c.width
		return &nn.Var{Rows: n, Cols: c.width, Data: x.Data[at : at+n*c.width]}
	}
	return view(c.k[layer]), view(c.v[layer])
}

// Append stores the keys and values of layer of a batch of one sequence behind
// the past, making room where a method has put rows before the tokens. The rows
// count as held once Advance was called after the last layer.
func (c *Cache) Append(layer int, k, v *nn.Var) {
	c.store(layer, k, v, []nn.Span{{Start: 0, End: k.Rows}})
}

func (c *Cache) store(layer int, k, v *nn.Var, seqs []nn.Span) {
	if len(seqs) != len(c.slots) {
		panic(fmt.Sprintf("model: a batch of %d sequences for a cache of %d", len(seqs), len(c.slots)))
	}
	c.adding = c.adding[:0]
	need := 0
	for i, s := range seqs {
		c.adding = append(c.adding, s.End-s.Start)
		need = max(need, c.lens[c.slots[i]]+s.End-s.Start)
	}
	if need > c.max {
		c.Grow(max(2*c.max, need))
	}
	for _, side := range []struct{ dst, src *nn.Var }{{c.k[layer], k}, {c.v[layer], v}} {
		src := side.src.Mat().Data
		for i, s := range seqs {
			at := (c.slots[i]*c.max + c.lens[c.slots[i]]) * c.width
			copy(side.dst.Data[at:], src[s.Start*c.width:s.End*c.width])
		}
	}
}

// Extend stores the batch's keys and values of layer and returns those that its
// attention reads, having put into the specification where they lie: the past of
// one sequence goes to PastK and PastV; several sequences that are continued by
// one row each read the cache itself. Continuing several by more rows at once is
// refused.
func (c *Cache) Extend(layer int, k, v *nn.Var, s *nn.AttnSpec) (keys, values *nn.Var) {
	c.store(layer, k, v, s.Seqs)
	if c.Len() == 0 {
		return k, v
	}
	if c.places == 1 {
		s.PastK, s.PastV = c.Past(layer)
		return k, v
	}
	s.Causal = false
	s.KeySeqs = make([]nn.Span, len(s.Seqs))
	for i := range s.Seqs {
		if c.adding[i] != 1 {
			panic("model: a cache of several sequences takes one more row of each at a time")
		}
		place := c.slots[i]
		s.KeySeqs[i] = nn.Span{Start: place * c.max, End: place*c.max + c.lens[place] + 1}
	}
	if s.Bias != nil { // the sequences of models with a bias have one length
		bias := *s.Bias
		bias.Offset += c.Len() // where the query stands among the keys
		s.Bias = &bias
	}
	return c.k[layer], c.v[layer]
}

// Advance counts the rows of the batch as held, once all layers have stored
// them. rows is the number of rows of one sequence; with several the number of
// each is that which was stored.
func (c *Cache) Advance(rows int) {
	if c.places == 1 {
		c.lens[0] += rows
		return
	}
	for i, n := range c.adding {
		c.lens[c.slots[i]] += n
	}
	c.adding = c.adding[:0]
}

// Keep goes on with the given sequences alone, by their index among those that
// the cache holds: the batches that follow have these.
func (c *Cache) Keep(sequences []int) {
	slots := make([]int, len(sequences))
	for i, s := range sequences {
		slots[i] = c.slots[s]
	}
	c.slots = slots
	for _, second := range c.beside {
		second.Keep(sequences)
	}
	if c.cross != nil {
		spans := make([]nn.Span, len(sequences))
		for i, s := range sequences {
			spans[i] = c.cross.spans[s]
		}
		c.cross.spans = spans
	}
}

// HasSource reports whether the source was read: then the encoder need not run.
func (c *Cache) HasSource() bool { return c.cross != nil && len(c.cross.k) == len(c.k) }

// Cross returns the keys and values of a layer's cross-attention, and the rows
// of each sequence's source among them.
func (c *Cache) Cross(layer int) (k, v *nn.Var, spans []nn.Span) {
	return c.cross.k[layer], c.cross.v[layer], c.cross.spans
}

// AppendCross stores the keys and values of the next layer's cross-attention.
func (c *Cache) AppendCross(k, v *nn.Var, spans []nn.Span) {
	if c.cross == nil {
		c.cross = &crossCache{spans: spans}
	}
	own := func(x *nn.Var) *nn.Var {
		return &nn.Var{Rows: x.Rows, Cols: x.Cols, Data: append([]float32(nil), x.Mat().Data[:x.Rows*x.Cols]...)}
	}
	c.cross.k, c.cross.v = append(c.cross.k, own(k)), append(c.cross.v, own(v))
}
