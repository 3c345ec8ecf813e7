// Package shira is SHiRA (Bhardwaj et al. 2024, arXiv 2406.13175) as a peftkit
// method: a few elements of each weight, drawn at random, are trained. Files are
// those of Hugging Face PEFT's SHIRA.
package shira

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is SHiRA, with the rank and learning rate of PEFT's method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "shira", PeftType: "SHIRA", Group: peft.Reparametrisation,
		Doc:          "trains a random choice of each weight's elements",
		Reference:    "Bhardwaj et al. 2024, arXiv 2406.13175",
		LearningRate: 3e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "as many elements are trained as LoRA of this rank has"},
			peft.Option{Key: "random_seed", Doc: "seed of the choice of elements; PEFT's own when it is not given"},
			peft.Option{Key: "mask_type", Default: "random", Doc: "how elements are chosen; files may say anything, as they hold the choice"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws normal numbers"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
	NoExclude: true, NoLayers: true,
}

type config struct {
	R    int     `json:"r"`
	Mask string  `json:"mask_type"`
	Seed *uint64 `json:"random_seed"`
	Init bool    `json:"init_weights"`

	chosen map[[2]int][]int64 // by shape: PEFT draws the same for all of a shape
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Mask: "random", Init: true, chosen: map[[2]int][]int64{}}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	return cfg, tuner.CheckRank("r", cfg.R)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("SHiRA of rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if _, err := p.Linear(); err != nil {
		return nil, err
	}
	n := c.R * (p.In + p.Out)
	if n > p.In*p.Out {
		return nil, fmt.Errorf("r %d asks for %d elements of its weight [%d %d], which has fewer: %w", c.R, n, p.Out, p.In, peft.ErrConfig)
	}
	return &site{c, tuner.Sparse{Place: p, V: p.Param("shira_weight", n)}}, nil
}

type site struct {
	cfg *config
	tuner.Sparse
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if s.cfg.Mask != "random" {
		return tuner.Invalid("mask_type is %q: peftkit chooses elements at random only", s.cfg.Mask)
	}
	s.draw()
	if !s.cfg.Init {
		tuner.Normal(s.V.V.Data, 1, rng.NormFloat64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.Sparse.Attach(scale)
	return nil
}
