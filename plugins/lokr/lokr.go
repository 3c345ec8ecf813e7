// Package lokr is LoKr as a peftkit method: the update of a weight is the Kronecker
// product of two small matrices, each of which may be a product of two factors
// (LyCORIS, Yeh et al. 2024, arXiv 2309.14859; KronA, Edalati et al. 2022, arXiv
// 2212.10650). Files are those of Hugging Face PEFT's LOKR type.
//
// A step costs more than LoRA's of as many parameters: the gradient of the large
// matrix is a product of a quarter of the layer's size with the default factor 4, on
// sides that are blended first.
package lokr

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is LoKr. Rank 32, alpha 64, factor 4 and the learning rate are those of
// the benchmark of Hugging Face PEFT (MetaMathQA, lokr rank32-factor4).
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "lokr", PeftType: "LOKR", Group: peft.Reparametrisation,
		Doc:          "adds the Kronecker product of two small matrices to the weights it targets",
		Reference:    "LyCORIS, Yeh et al. 2024, arXiv 2309.14859; KronA, arXiv 2212.10650",
		LearningRate: 3e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "rank of the factors; large enough, the second matrix is not split"},
			peft.Option{Key: "alpha", Flag: "alpha", Default: 64.0, Doc: "scale times rank"},
			peft.Option{Key: "decompose_factor", Default: 4, Doc: "size of the first matrix; -1 makes both about equal"},
			peft.Option{Key: "decompose_both", Default: false, Doc: "split the first matrix too where the rank is small enough"},
			peft.Option{Key: "rank_dropout", Default: 0.0, Doc: "share of the update's rows that a step leaves out"},
			peft.Option{Key: "rank_dropout_scale", Default: false, Doc: "divide what is left by its share"},
			peft.Option{Key: "module_dropout", Default: 0.0, Doc: "share of the modules whose update a step leaves out"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true (first matrix zero), lycoris (second matrix zero), or false (all random)"},
			peft.Option{Key: "rank_pattern", Doc: "rank of single modules: {pattern: rank}"},
			peft.Option{Key: "alpha_pattern", Doc: "alpha of single modules: {pattern: alpha}"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	tuner.Lycoris
	Both         bool `json:"decompose_both"`
	Factor       int  `json:"decompose_factor"`
	DropoutScale bool `json:"rank_dropout_scale"`

	init string // "true", "false" or "lycoris"
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Lycoris: tuner.Lycoris{R: 8, Alpha: 8}, Factor: -1, init: "true"}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if v := c.Raw("init_weights"); v != nil {
		cfg.init = strings.Trim(string(v), `"`)
	}
	if cfg.init != "true" && cfg.init != "false" && cfg.init != "lycoris" {
		return nil, tuner.Invalid("init_weights is %.40s, expected true, false or lycoris", cfg.init)
	}
	if cfg.Factor < 1 && cfg.Factor != -1 {
		return nil, tuner.Invalid("decompose_factor is %d, expected at least 1, or -1", cfg.Factor)
	}
	return cfg, cfg.Read(c)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("LoKr rank %d", c.R) }

// factors splits n into two factors, the smaller one first, as PEFT does: at the
// given one if it divides n, else at the largest divisor up to it that keeps
// making the sum of both smaller; -1 sets no limit.
func factors(n, at int) (small, large int) {
	if at > 0 && n%at == 0 {
		return at, n / at // PEFT does not order these
	}
	if at == -1 {
		at = n
	}
	small, large = 1, n
	sum := small + large
	for small < large {
		next := small + 1
		for n%next != 0 {
			next++
		}
		if next+n/next > sum || next > at {
			break
		}
		small, large = next, n/next
	}
	return min(small, large), max(small, large)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	r, scale, err := c.At(p.Path)
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, layer: l, scale: scale}
	s.outer[1], s.inner[1] = factors(p.In, c.Factor)
	s.outer[0], s.inner[0] = factors(p.Out, c.Factor)
	if c.Both && 2*r < max(s.outer[0], s.outer[1]) {
		s.w1a, s.w1b = p.Param("lokr_w1_a", s.outer[0], r), p.Param("lokr_w1_b", r, s.outer[1])
	} else {
		s.w1 = p.Param("lokr_w1", s.outer[0], s.outer[1])
	}
	if 2*r < max(s.inner[0], s.inner[1]) {
		s.w2a, s.w2b = p.Param("lokr_w2_a", s.inner[0], r), p.Param("lokr_w2_b", r, s.inner[1])
	} else {
		s.w2 = p.Param("lokr_w2", s.inner[0], s.inner[1])
	}
	return s, nil
}
