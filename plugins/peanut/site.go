package peanut

import (
	"slices"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// run returns the hidden layer of the network, [r, in].
func (s *site) run(t *nn.Tape) *nn.Var {
	h := nn.Apply(t, nn.LinearOp(t, s.a.V, tuner.Turned(s.layer.W), nil), s.cfg.act)
	var kept []*nn.Var
	for _, p := range s.down {
		kept = append(kept, h)
		h = nn.Apply(t, nn.MatMul(t, p.V, h), s.cfg.act)
	}
	for i, p := range s.up {
		h = nn.Sum(t, nn.Apply(t, nn.MatMul(t, p.V, h), s.cfg.act), kept[len(kept)-1-i])
	}
	return h
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	scale *= float32(s.cfg.Scaling)
	s.layer.AddLowRank(func(t *nn.Tape, _ *nn.Var) nn.LowRank {
		low := nn.LowRank{B: s.b.V, Scale: scale}
		if t.Train || s.layer.W.Frozen == nil {
			low.A = s.run(t)
		} else {
			low.A = s.last.of(s)
		}
		return low
	})
	return nil
}

// hidden is the hidden layer as it was last computed: it is a pass over the weight
// for each row, and while text is written it stays the same.
type hidden struct {
	mu     sync.Mutex
	w      *nn.Weight
	params []float32
	h      *nn.Var
}

func (c *hidden) of(s *site) *nn.Var {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holds(s) {
		t := nn.NewTape()
		defer t.Close()
		h := s.run(t)
		c.h = tuner.Constant(slices.Clone(h.Mat().Data), h.Rows, h.Cols)
		c.w, c.params = s.layer.W, c.params[:0]
		for _, p := range s.network() {
			c.params = append(c.params, p.V.Data...)
		}
	}
	return c.h
}

func (c *hidden) holds(s *site) bool {
	if c.h == nil || c.w != s.layer.W {
		return false
	}
	rest := c.params
	for _, p := range s.network() {
		n := len(p.V.Data)
		if !slices.Equal(rest[:n], p.V.Data) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

// MergeRows implements tuner.RowMerging. The network reads the weight of the base
// model, as in the forward pass, whatever else is merged.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	tuner.AddProduct(w, s.b.V.Mat().RowsOf(r0, r1), s.last.of(s).Mat(), scale*float32(s.cfg.Scaling))
}
