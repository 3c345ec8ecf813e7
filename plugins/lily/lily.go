// Package lily is Lily (Zhong et al. 2024, arXiv 2407.09946) as a peftkit method:
// low-rank changes whose parts are shared by layers. Neighbouring layers share the
// projection down, all layers of one kind the projections up, which a router of each
// layer mixes. Files are those of Hugging Face PEFT's LILY.
//
// As in PEFT the mixture is the mean over all tokens of a batch, so that a text's
// logits depend on what it is computed with, and a token on those after it.
package lily

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is Lily. The learning rate is above the 1e-4 of PEFT's method comparison, which
// is for 5000 steps.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "lily", PeftType: "LILY", Group: peft.Reparametrisation,
		Doc:          "low-rank changes whose parts layers share, mixed by routers",
		Reference:    "Zhong et al. 2024, arXiv 2407.09946",
		NotMergeable: "its mixture depends on the text",
		LearningRate: 1e-3,
		Options: tuner.Options("",
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "rank of the changes"},
			peft.Option{Key: "stride_A", Default: 1, Doc: "neighbouring layers of one kind that share a projection down"},
			peft.Option{Key: "num_B", Default: 2, Doc: "projections up, shared by all layers of one kind"},
			peft.Option{Key: "scaling", Default: 1.0, Doc: "factor of the changes"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws the projections up too"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Stride  int     `json:"stride_A"`
	Ups     int     `json:"num_B"`
	Scaling float64 `json:"scaling"`
	Init    bool    `json:"init_weights"`

	targets peft.Targets
	kinds   map[string][]*site // sites that share, by name and shape, in the model's order
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Stride: 1, Ups: 2, Scaling: 1, Init: true, targets: c.TargetModules, kinds: map[string][]*site{}}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if cfg.Stride < 1 {
		return nil, tuner.Invalid("stride_A is %d, expected 1 or more", cfg.Stride)
	}
	if cfg.Ups < 1 || cfg.Ups > 1<<12 {
		return nil, tuner.Invalid("num_B is %d, expected 1 to %d", cfg.Ups, 1<<12)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("Lily rank %d", c.R) }

// kind names what a module shares with others: the entry of target_modules that it ends
// in, and its shape.
func (c *config) kind(p *tuner.Place) string {
	name := ""
	for _, item := range c.targets.List {
		if strings.HasSuffix(p.Path, item) {
			name = item
		}
	}
	return fmt.Sprintf("%s %d %d", name, p.Out, p.In)
}

// Site implements tuner.Tuner. A tensor that is shared is in the file of every layer.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	p.Model.WholeText = true
	s := &site{cfg: c, layer: l}
	kind := c.kind(p)
	others := c.kinds[kind]
	c.kinds[kind] = append(others, s)
	if n := len(others) / c.Stride * c.Stride; n < len(others) {
		s.a = others[n].a
		share(p.Buffer("lily_A.weight", c.R, p.In), s.a)
	} else {
		s.a, s.leadsA = p.Param("lily_A.weight", c.R, p.In), true
	}
	if len(others) > 0 {
		s.b = others[0].b
		share(p.Buffer("lily_B.weight", c.Ups*c.R, p.Out), s.b)
	} else {
		s.b, s.leadsB = p.Param("lily_B.weight", c.Ups*c.R, p.Out), true
	}
	s.router = p.Param("lily_router.weight", c.Ups, c.R)
	return s, nil
}

// share makes a tensor another name of a parameter.
func share(tensor, of *nn.Param) { tensor.V.Data = of.V.Data }

type site struct {
	cfg            *config
	layer          *nn.LinearLayer
	a, b, router   *nn.Param // [r, in], [ups*r, out] and [ups, r]
	leadsA, leadsB bool
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	bound := func(n int) float64 { return 1 / math.Sqrt(float64(n)) }
	if s.leadsA {
		tuner.Uniform(s.a.V.Data, bound(s.a.V.Cols), rng.Float64)
	}
	if s.leadsB && !s.cfg.Init {
		tuner.Uniform(s.b.V.Data, bound(s.b.V.Cols), rng.Float64)
	}
	tuner.Uniform(s.router.V.Data, bound(s.cfg.R), rng.Float64)
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	r, out := s.cfg.R, s.b.V.Cols
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		h := nn.MatMulT(t, x, s.a.V)
		share := nn.MeanRows(t, nn.SoftmaxRows(t, nn.MatMulT(t, h, s.router.V)), []nn.Span{{Start: 0, End: x.Rows}})
		up := nn.MatMul(t, share, nn.View(t, s.b.V, s.cfg.Ups, r*out))
		return nn.LowRank{X: h, B: nn.Transpose(t, nn.View(t, up, r, out)), Scale: scale * float32(s.cfg.Scaling)}
	})
	return nil
}
