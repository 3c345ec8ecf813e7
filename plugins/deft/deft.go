// Package deft is DEFT (Kumar et al. 2025, arXiv 2509.22793) as a peftkit method: a
// weight W becomes (I - Q Pᵀ) W + Q R, so that what it gives in the few directions Q
// is taken out and learned anew. Q and P are made of one trained matrix. With para
// nothing is put in its place (PaRa, Chen et al. 2024, arXiv 2406.05641). Files are
// those of Hugging Face PEFT's DEFT.
//
// What is taken out is computed from the layer's own output, so that neither pass
// reads the weight once more; the output is kept for the gradient.
package deft

import (
	"fmt"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is DEFT, with the rank, alpha and learning rate of PEFT's method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "deft", PeftType: "DEFT", Group: peft.Reparametrisation,
		Doc:          "takes a few directions out of the outputs and learns them anew",
		Reference:    "Kumar et al. 2025, arXiv 2509.22793",
		LearningRate: 1e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "number of directions"},
			peft.Option{Key: "alpha", Flag: "alpha", Default: 128, Doc: "what is put in is multiplied by alpha/r; 0 or null for 1"},
			peft.Option{Key: "decomposition_method", Default: relu, Doc: "relu (takes out P relu(P)ᵀ) or qr (an orthogonal projection)"},
			peft.Option{Key: "para", Default: false, Doc: "PaRa: only take directions out, with nothing in their place"},
			peft.Option{Key: "deft_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of what is put in"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true (begins as what is taken out, so that nothing changes) or false (random)"},
			peft.Option{Key: "init_scale", Default: 1.0, Doc: "size of the random start of init_weights false"},
			tuner.BiasOption("deft"),
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

const (
	relu = "relu"
	qr   = "qr"
)

type config struct {
	R         int     `json:"r"`
	Alpha     float64 `json:"alpha"`
	Kind      string  `json:"decomposition_method"`
	Para      bool    `json:"para"`
	Dropout   float64 `json:"deft_dropout"`
	Init      bool    `json:"init_weights"`
	InitScale float64 `json:"init_scale"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 8, Kind: relu, Init: true, InitScale: 1}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if cfg.Kind != relu && cfg.Kind != qr {
		return nil, tuner.Invalid("decomposition_method is %.40q, expected relu or qr", cfg.Kind)
	}
	if cfg.InitScale < 0 {
		return nil, tuner.Invalid("init_scale is %g, expected at least 0", cfg.InitScale)
	}
	return cfg, tuner.CheckShare("deft_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	name := "DEFT"
	if c.Para {
		name = "PaRa"
	}
	return fmt.Sprintf("%s rank %d", name, c.R)
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// Site implements tuner.Tuner. A module has no more directions than outputs.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	r := min(c.R, p.Out)
	s := &site{cfg: c, layer: l, gain: 1, p: p.Param("deft_P", p.Out, r)}
	if c.Alpha != 0 {
		s.gain = float32(c.Alpha / float64(r))
	}
	if !c.Para {
		s.r = p.Param("deft_R", r, p.In)
	}
	return s, nil
}

type site struct {
	cfg   *config
	layer *nn.LinearLayer
	gain  float32   // of R
	p, r  *nn.Param // [out, r] and [r, in]; no R with para
	last  decomposed
}
