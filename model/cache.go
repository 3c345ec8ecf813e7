package model

import (
	"fmt"

	"github.com/peftkit/peftkit/nn"
)

// Cache keeps the keys and values of one growing sequence, layer by layer, so
// that each new token costs one row.
type Cache struct {
	max, width, n int
	k, v          []*nn.Var // per layer: [max, width]
}

// NewCache makes room for max tokens.
func (m *Model) NewCache(max int) *Cache {
	c := &Cache{max: max, width: m.KVSize}
	for range m.Layers {
		c.k = append(c.k, &nn.Var{Rows: max, Cols: c.width, Data: make([]float32, max*c.width)})
		c.v = append(c.v, &nn.Var{Rows: max, Cols: c.width, Data: make([]float32, max*c.width)})
	}
	return c
}

// Len returns the number of tokens held.
func (c *Cache) Len() int { return c.n }

// Grow makes room for max tokens in all and keeps those that are held.
func (c *Cache) Grow(max int) {
	if max <= c.max {
		return
	}
	c.max = max
	for _, side := range [][]*nn.Var{c.k, c.v} {
		for _, x := range side {
			data := make([]float32, max*c.width)
			copy(data, x.Data[:c.n*c.width])
			x.Rows, x.Data = max, data
		}
	}
}

// Room returns an error when k more tokens do not fit.
func (c *Cache) Room(k int) error {
	if c.n+k > c.max {
		return fmt.Errorf("key/value cache of %d tokens is full: %d held, %d more wanted", c.max, c.n, k)
	}
	return nil
}

// Past returns the keys and values of layer that precede the batch; nil when the
// cache is empty.
func (c *Cache) Past(layer int) (k, v *nn.Var) {
	if c.n == 0 {
		return nil, nil
	}
	view := func(x *nn.Var) *nn.Var {
		return &nn.Var{Rows: c.n, Cols: c.width, Data: x.Data[:c.n*c.width]}
	}
	return view(c.k[layer]), view(c.v[layer])
}

// Append stores the batch's keys and values of layer behind the past, making
// room where a method has put rows before the tokens. The tokens count as held
// once Advance was called after the last layer.
func (c *Cache) Append(layer int, k, v *nn.Var) {
	if c.n+k.Rows > c.max {
		c.Grow(max(2*c.max, c.n+k.Rows))
	}
	copy(c.k[layer].Data[c.n*c.width:], k.Data[:k.Rows*k.Cols])
	copy(c.v[layer].Data[c.n*c.width:], v.Data[:v.Rows*v.Cols])
}

// Advance counts rows as held.
func (c *Cache) Advance(rows int) { c.n += rows }
