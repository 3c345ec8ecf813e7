// Package vera is VeRA (Kopiczko et al. 2024, arXiv 2310.11454) as a peftkit
// method: all modules share one frozen random pair of matrices, and each trains two
// vectors that scale it. Files are those of Hugging Face PEFT's VERA type; where
// they do not hold the matrices, they are drawn as PyTorch draws them.
//
// Each step multiplies by matrices of the shared rank, which is many times LoRA's for
// as many parameters, so VeRA cannot train as fast as LoRA.
package vera

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is VeRA. Rank, first value of d, targets and learning rate are those of
// the paper's instruction tuning.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "vera", PeftType: "VERA", Group: peft.Reparametrisation,
		Doc:          "scales the rows of two shared random matrices by trained vectors",
		Reference:    "Kopiczko et al. 2024, arXiv 2310.11454",
		LearningRate: 4e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 256, Doc: "rank of the shared matrices"},
			peft.Option{Key: "vera_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input"},
			peft.Option{Key: "d_initial", Default: 0.1, Doc: "first value of the inner vector; small ones work best"},
			peft.Option{Key: "projection_prng_key", Default: 0, Doc: "seed of the shared matrices"},
			peft.Option{Key: "save_projection", Default: true, Doc: "keep the shared matrices in the file; else they are drawn again"},
			tuner.BiasOption("vera"),
			peft.Option{Key: "init_weights", Default: true, Doc: "start from no change; false draws the vectors"},
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	tuner.Projection
	R       int     `json:"r"`
	Dropout float64 `json:"vera_dropout"`
	D       float64 `json:"d_initial"`
	Init    bool    `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Projection: tuner.Projection{Save: true}, R: 256, D: 0.1, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	return cfg, tuner.CheckShare("vera_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("VeRA rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	return &site{cfg: c, layer: l, out: p.Out, in: p.In, lb: p.Param("vera_lambda_b", p.Out), ld: p.Param("vera_lambda_d", c.R)}, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	c.Declare(a, "vera", c.R, c.R)
	return nil
}

// site adds diag(lb)·B·diag(ld)·A, B and A cut to the module's size.
type site struct {
	cfg     *config
	layer   *nn.LinearLayer
	out, in int
	lb, ld  *nn.Param

	once sync.Once
	rows kernels.Mat // diag(ld)·A
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	for i := range s.ld.V.Data {
		if s.ld.V.Data[i] = float32(s.cfg.D); !s.cfg.Init {
			s.ld.V.Data[i] = float32(rng.NormFloat64())
		}
	}
	for i := range s.lb.V.Data {
		if s.lb.V.Data[i] = 0; !s.cfg.Init {
			s.lb.V.Data[i] = 1
		}
	}
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.once.Do(func() {
		s.rows = kernels.NewMat(s.cfg.R, s.in)
		for r := range s.cfg.R {
			copy(s.rows.Row(r), s.cfg.A.V.Data[r*s.cfg.A.V.Cols:])
			kernels.Scale(s.rows.Row(r), s.ld.V.Data[r])
		}
	})
	b := kernels.NewMat(r1-r0, s.cfg.R)
	for r := r0; r < r1; r++ {
		copy(b.Row(r-r0), s.cfg.B.V.Data[r*s.cfg.R:])
		kernels.Scale(b.Row(r-r0), s.lb.V.Data[r])
	}
	tuner.AddProduct(w, b, s.rows, scale)
}
