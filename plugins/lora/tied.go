package lora

import (
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/peft/tuner"
)

// tiedHead is the output embedding of a model that ties it to the input embedding,
// with ensure_weight_tying: its A is the transpose of the embedding's B, its B that of
// the embedding's A. PEFT lays both pairs into the same memory and trains each as a
// parameter of its own, so each step moves the numbers twice; here they are two copies
// that are brought together after each step.
type tiedHead struct {
	linear
	of *site // the embedding
	// before holds A and B of the embedding before a step.
	before [2][]float32
}

// Tied implements tuner.Tier.
func (c *config) Tied(p *tuner.Place, embeddingSite tuner.Site) (tuner.Site, error) {
	e, ok := embeddingSite.(*embedding)
	if !ok {
		return nil, tuner.Invalid("ensure_weight_tying with use_dora: DoRA's lengths of input and output embedding are not tied, the model would not stay so; leave out one of both keys")
	}
	if c.changesBase() {
		return nil, tuner.Invalid("ensure_weight_tying with init_lora_weights %s, which changes the output embedding alone; leave out one of both keys", c.initKind)
	}
	r, alpha, err := c.single.At(p.Path, c.R, c.Alpha)
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, at: p, rank: e.rank, alpha: alpha, scale: float32(scaleOf(alpha, r, c.UseRSLoRA))}
	s.a = p.Param("lora_A.weight", s.rank, p.In)
	s.b = p.Param("lora_B.weight", p.Out, s.rank)
	c.sites = append(c.sites, s)
	h := &tiedHead{linear: linear{s}, of: e.site}
	c.tied = append(c.tied, h)
	e.tied = e.scale == s.scale
	return h, nil
}

// Follows implements tuner.Follower.
func (h *tiedHead) Follows() bool { return h.scale == h.of.scale }

// Check implements tuner.Checker.
func (h *tiedHead) Check() error {
	switch h.cfg.initKind {
	case initDefault, initGaussian, initRandom:
		return nil
	}
	return tuner.Invalid("ensure_weight_tying with init_lora_weights %s: the tied factors begin as true, gaussian or false", h.cfg.initKind)
}

// Init implements tuner.Site. It comes after the embedding's, whose numbers it
// replaces: in PEFT they are the same.
func (h *tiedHead) Init(rng *rand.Rand) error {
	if err := h.Check(); err != nil {
		return err
	}
	switch h.cfg.initKind {
	case initRandom:
		h.follow()
		return nil
	case initGaussian:
		tuner.Normal(h.a.V.Data, 1/float64(h.rank), rng.NormFloat64)
	default:
		tuner.Uniform(h.a.V.Data, 1/math.Sqrt(float64(h.at.In)), rng.Float64)
	}
	h.lead()
	return nil
}

// follow takes the embedding's factors over.
func (h *tiedHead) follow() {
	copyTurned(h.a.V.Data, h.of.b.V.Data, h.at.In, h.rank)
	copyTurned(h.b.V.Data, h.of.a.V.Data, h.rank, h.at.Out)
}

// lead gives the embedding its factors.
func (h *tiedHead) lead() {
	copyTurned(h.of.b.V.Data, h.a.V.Data, h.rank, h.at.In)
	copyTurned(h.of.a.V.Data, h.b.V.Data, h.at.Out, h.rank)
}

// copyTurned writes the transpose of src, [rows, cols].
func copyTurned(dst, src []float32, rows, cols int) {
	for i := range rows {
		for j, v := range src[i*cols : (i+1)*cols] {
			dst[j*rows+i] = v
		}
	}
}

// Settle implements tuner.Settler: as in PEFT the head's copy is the one that counts.
func (c *config) Settle() {
	for _, h := range c.tied {
		h.lead()
	}
}

// remember keeps the factors before a step.
func (h *tiedHead) remember() {
	h.before[0] = append(h.before[0][:0], h.of.a.V.Data...)
	h.before[1] = append(h.before[1][:0], h.of.b.V.Data...)
}

// join adds what the step did to the head's copy to the embedding's, and makes them
// one again.
func (h *tiedHead) join() {
	add := func(dst, old, turned []float32, rows, cols int) {
		for i := range rows {
			for j := range cols {
				dst[i*cols+j] += turned[j*rows+i] - old[i*cols+j]
			}
		}
	}
	add(h.of.a.V.Data, h.before[0], h.b.V.Data, h.rank, h.at.Out)
	add(h.of.b.V.Data, h.before[1], h.a.V.Data, h.at.In, h.rank)
	h.follow()
}
