// Package peanut is PEANuT (Zhong et al. 2024, arXiv 2410.01870) as a peftkit method:
// a small network reads the weight and gives its change. Files are those of Hugging
// Face PEFT's PEANUT. On GPT-2's Conv1D, which PEFT refuses, the network reads the
// linear map's weight as on any other layer.
//
// The network's last layer is linear, so that the change has low rank: its hidden
// layer, a row for each unit and a column for each input of the module, and that last
// layer are the two factors. No matrix of the weight's size is made.
package peanut

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is PEANuT, with the rank, scaling and learning rate of PEFT's method
// comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "peanut", PeftType: "PEANUT", Group: peft.Reparametrisation,
		Doc:          "a small network makes the change of a weight from the weight",
		Reference:    "Zhong et al. 2024, arXiv 2410.01870",
		LearningRate: 1e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "width of the network"},
			peft.Option{Key: "depth", Default: 0, Doc: "hidden layers on each side of the network"},
			peft.Option{Key: "act_fn", Default: nn.ReLU.Name, Doc: "activation, as transformers calls it: " + activations},
			peft.Option{Key: "scaling", Default: 2.0, Doc: "multiplies the change"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true (B zero) or false (all random)"},
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
	cfg := &config{R: 32, Act: nn.ReLU.Name, Scaling: 1, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	const layers, numbers = 1 << 10, 1 << 28
	if cfg.Depth < 0 || cfg.Depth > layers || cfg.Depth*cfg.R > numbers/cfg.R {
		return nil, tuner.Invalid("depth is %d with r %d, expected 0 to %d, and no more than %d numbers in the hidden layers: depth times r times r", cfg.Depth, cfg.R, layers, numbers)
	}
	var known bool
	if cfg.act, known = activation(cfg.Act); !known {
		return nil, tuner.Invalid("act_fn is %.40q, which this peftkit does not compute; choose %s", cfg.Act, activations)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("PEANuT rank %d depth %d", c.R, c.Depth) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, layer: l, a: p.Param("peanut_A.weight", c.R, p.Out), b: p.Param("peanut_B.weight", p.Out, c.R)}
	for i := range c.Depth {
		s.down = append(s.down, p.Param("peanut_encoders."+strconv.Itoa(i)+".weight", c.R, c.R))
	}
	for i := range c.Depth {
		s.up = append(s.up, p.Param("peanut_decoders."+strconv.Itoa(i)+".weight", c.R, c.R))
	}
	return s, nil
}

type site struct {
	cfg      *config
	layer    *nn.LinearLayer
	a, b     *nn.Param   // [r, out] and [out, r]
	down, up []*nn.Param // [r, r] each
	last     hidden
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	all := s.network()
	if !s.cfg.Init {
		all = append(all, s.b)
	}
	for _, p := range all {
		tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64)
	}
	return nil
}

// network lists the parameters of all layers but the last.
func (s *site) network() []*nn.Param {
	out := append([]*nn.Param{s.a}, s.down...)
	return append(out, s.up...)
}
