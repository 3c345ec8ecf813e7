// Package frod is FRoD (Wan et al. 2025, arXiv 2512.23485: full-rank fine-tuning with
// rotational degrees) as a peftkit method. The weights with one role in all blocks share
// a basis V, W = U diag(l) Vᵀ; trained are l and a sparse matrix S beside it:
// U (diag(l) + S) Vᵀ. Files are those of Hugging Face PEFT's FROD.
//
// A file holds V and S and not U, which is W V⁻ᵀ with columns of length one. V comes out
// of decompositions in float32 whose signs, and where singular values lie close whose
// vectors, are chance: two libraries find two of them. So a file without V
// (save_projection false) is refused, and so is making one. PEFT 0.21.2 is not as
// careful: it reads V from the file and keeps the U of the V that it found itself. On a
// file of the same PEFT on the same machine they belong together; on any other it
// computes something else than the file says, on one that peftkit began too. It computes
// right what peftkit trained on from such a file of PEFT's own, and merged models.
//
// U and V are full matrices. A training step does no more products than PEFT, which
// leaves out the base weight's; memory holds U in float32 beside the base weight.
package frod

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is FRoD with PEFT's defaults. The learning rate is the higher one of PEFT's
// method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "frod", PeftType: "FROD", Group: peft.Reparametrisation,
		Doc:          "scales and sparsely mixes the directions of a basis that like weights share",
		Reference:    "Wan et al. 2025, arXiv 2512.23485",
		LearningRate: 1e-3,
		Options: tuner.Options("",
			peft.Option{Key: "sparse_rate", Default: 0.01, Doc: "share of the elements of the mixing matrix that are trained"},
			peft.Option{Key: "regularization_alpha", Default: 1e-3, Doc: "added to what is inverted to find the basis"},
			peft.Option{Key: "frod_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of the change"},
			peft.Option{Key: "projection_prng_key", Default: 0, Doc: "seed of the choice of trained elements"},
			peft.Option{Key: "save_projection", Default: true, Doc: "keep the bases in the file; they cannot be found again without"},
			tuner.BiasOption("frod"),
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false adds normal numbers"},
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	Rate    float64 `json:"sparse_rate"`
	Alpha   float64 `json:"regularization_alpha"`
	Dropout float64 `json:"frod_dropout"`
	Key     uint64  `json:"projection_prng_key"`
	Save    bool    `json:"save_projection"`
	Init    bool    `json:"init_weights"`

	categories []*category
	sites      []*site
	numberless int // modules without a block's number
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Rate: 0.01, Alpha: 1e-3, Save: true, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch {
	case !(cfg.Rate >= 0 && cfg.Rate <= 1):
		return nil, tuner.Invalid("sparse_rate is %g, expected 0 to 1", cfg.Rate)
	case !(cfg.Alpha > 0):
		return nil, tuner.Invalid("regularization_alpha is %g, expected a positive number", cfg.Alpha)
	case !cfg.Save:
		return nil, tuner.Invalid("save_projection is false: the bases are not in the file, and come out of decompositions that no other program repeats; save the adapter with save_projection true where it was made")
	}
	return cfg, tuner.CheckShare("frod_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("FRoD with %g of the elements", c.Rate) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if _, err := p.Linear(); err != nil {
		return nil, err
	}
	cat, err := c.category(p)
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, at: p, cat: cat, l: p.Param("frod_lambda_l", p.In), s: p.Param("frod_lambda_s_values", cat.count)}
	c.sites = append(c.sites, s)
	return s, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error {
	if err := c.findBases(); err != nil {
		return err
	}
	c.draw()
	return c.fit()
}

// Check implements tuner.Checker.
func (c *config) Check() error { return nil }

// site is U (diag(l) + S) Vᵀ in the place of a weight U diag(l0) Vᵀ.
type site struct {
	cfg *config
	at  *tuner.Place
	cat *category
	l   *nn.Param // [in]
	s   *nn.Param // the elements of S

	u    *nn.Var   // [out, in], constant
	base []float32 // l0

	merged tuner.Fixed // (diag(l - l0) + S) Vᵀ
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	copy(s.l.V.Data, s.base)
	if !s.cfg.Init {
		tuner.Normal(s.s.V.Data, 0.1, rng.NormFloat64)
		for i := range s.l.V.Data {
			s.l.V.Data[i] += float32(0.1 * rng.NormFloat64())
		}
	}
	return nil
}

// Check implements tuner.Checker.
func (s *site) Check() error { return nil }
