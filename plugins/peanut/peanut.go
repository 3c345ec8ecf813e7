// Package peanut is PEANuT (Zhong et al. 2024, arXiv 2410.01870) as a peftkit method:
// a small network reads a weight and gives its change. Files are those of Hugging Face
// PEFT's PEANUT.
//
// What the network's last layer reads is of low rank, so the change is computed as
// LoRA's is; its other factor costs one product with the weight in each step.
package peanut

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is PEANuT. The learning rate is above the 1e-4 of PEFT's method comparison, which
// is for 5000 steps.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "peanut", PeftType: "PEANUT", Group: peft.Reparametrisation,
		Doc:          "a small network computes the change of a weight from the weight",
		Reference:    "Zhong et al. 2024, arXiv 2410.01870",
		LearningRate: 1e-3,
		Options: tuner.Options("",
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "width of the network"},
			peft.Option{Key: "depth", Default: 0, Doc: "hidden layers on either side of its middle"},
			peft.Option{Key: "act_fn", Default: "relu", Doc: "activation, as transformers calls it"},
			peft.Option{Key: "scaling", Default: 1.0, Doc: "factor of the change"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws the last layer too"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Depth   int     `json:"depth"`
	Act     string  `json:"act_fn"`
	Scaling float64 `json:"scaling"`
	Init    bool    `json:"init_weights"`

	act nn.Activation
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Act: "relu", Scaling: 1, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if cfg.Depth < 0 || cfg.Depth > 1<<10 {
		return nil, tuner.Invalid("depth is %d, expected 0 to %d", cfg.Depth, 1<<10)
	}
	var ok bool
	if cfg.act, ok = activation(cfg.Act); !ok {
		return nil, tuner.Invalid("act_fn is %q, which this peftkit does not compute; it has %s", cfg.Act, activations)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("PEANuT rank %d, depth %d", c.R, c.Depth) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if l.W.Conv1D {
		return nil, fmt.Errorf("its weight is of a Conv1D, which the method (as PEFT has it) does not change: choose other target_modules, or lora: %w", peft.ErrNoFit)
	}
	s := &site{cfg: c, layer: l, a: p.Param("peanut_A.weight", c.R, p.Out), b: p.Param("peanut_B.weight", p.Out, c.R)}
	for i := range c.Depth {
		s.encoders = append(s.encoders, p.Param(fmt.Sprintf("peanut_encoders.%d.weight", i), c.R, c.R))
	}
	for i := range c.Depth {
		s.decoders = append(s.decoders, p.Param(fmt.Sprintf("peanut_decoders.%d.weight", i), c.R, c.R))
	}
	return s, nil
}

type site struct {
	cfg                *config
	layer              *nn.LinearLayer
	a, b               *nn.Param   // [r, out] and [out, r]
	encoders, decoders []*nn.Param // [r, r]

	merged tuner.Fixed
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	draw := func(p *nn.Param) { tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64) }
	draw(s.a)
	for i := range s.encoders {
		draw(s.encoders[i])
		draw(s.decoders[i])
	}
	if !s.cfg.Init {
		draw(s.b)
	}
	return nil
}

// inner returns what the last layer reads, [r, in]: the other factor of the change.
func (s *site) inner(t *nn.Tape) *nn.Var {
	w := s.layer.W
	turned := &nn.Weight{Name: w.Name, Out: w.In, In: w.Out, Transposed: !w.Transposed, Frozen: w.Frozen, P: w.P}
	h := nn.Apply(t, nn.LinearOp(t, s.a.V, turned, nil), s.cfg.act)
	var before []*nn.Var
	for _, e := range s.encoders {
		before = append(before, h)
		h = nn.Apply(t, nn.MatMul(t, e.V, h), s.cfg.act)
	}
	for i, d := range s.decoders {
		h = nn.Sum(t, nn.Apply(t, nn.MatMul(t, d.V, h), s.cfg.act), before[len(before)-1-i])
	}
	return h
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.layer.AddLowRank(func(t *nn.Tape, _ *nn.Var) nn.LowRank {
		return nn.LowRank{A: s.inner(t), B: s.b.V, Scale: scale * float32(s.cfg.Scaling)}
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	inner := s.merged.Of(func(t *nn.Tape) []*nn.Var { return []*nn.Var{s.inner(t)} })[0]
	tuner.AddProduct(w, s.b.V.Mat().RowsOf(r0, r1), inner.Mat(), scale*float32(s.cfg.Scaling))
}
