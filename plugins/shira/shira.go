// Package shira is SHiRA (Bhardwaj et al. 2024, arXiv 2406.13175) as a peftkit
// method: a few elements of each weight, drawn at random, are trained. Files are
// those of Hugging Face PEFT's SHIRA.
//
// The weight stays in the type it is stored in: the trained elements are added as
// it is decoded, and only their gradients are computed.
package shira

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
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
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	n := c.R * (p.In + p.Out)
	if n > p.In*p.Out {
		return nil, fmt.Errorf("r %d asks for %d elements of its weight [%d %d], which has fewer: %w", c.R, n, p.Out, p.In, peft.ErrConfig)
	}
	return &site{cfg: c, place: p, layer: l, v: p.Param("shira_weight", n)}, nil
}

type site struct {
	cfg   *config
	place *tuner.Place
	layer *nn.LinearLayer
	v     *nn.Param // [n]
	// rows and cols say which elements of [out, in] are meant.
	rows, cols []int32
	order      order
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if s.cfg.Mask != "random" {
		return tuner.Invalid("mask_type is %q: peftkit chooses elements at random only", s.cfg.Mask)
	}
	s.draw()
	if !s.cfg.Init {
		tuner.Normal(s.v.V.Data, 1, rng.NormFloat64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.order = sorted(s.rows, s.cols, s.place.Mod.Weight().Transposed)
	e := tuner.Elements{
		Layer: s.layer, Params: []*nn.Var{s.v.V},
		Change: func(v []float32, row, col int) { s.order.add(v, row, col, s.v.V.Data, scale) },
		Grad:   func(t *nn.Tape, _ *nn.Weight, x, dy kernels.Mat) { s.grad(t, x, dy, scale) },
		Dense: func(t *nn.Tape) *nn.Var {
			index := make([]int32, len(s.rows))
			for k := range index {
				index[k] = s.rows[k]*int32(s.place.In) + s.cols[k]
			}
			return nn.Scale(t, nn.Scatter(t, s.v.V, index, s.place.Out, s.place.In), scale)
		},
	}
	e.Attach()
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	for k, r := range s.rows {
		if int(r) >= r0 && int(r) < r1 {
			w.Row(int(r) - r0)[s.cols[k]] += scale * s.v.V.Data[k]
		}
	}
}
