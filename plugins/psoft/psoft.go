// Package psoft is PSOFT (Efficient Orthogonal Fine-Tuning with Principal Subspace
// Adaptation, openreview FSHrinMArK) as a peftkit method: what a weight does within
// its first singular vectors is rotated, W + B (R - I) A. Files are those of Hugging
// Face PEFT's PSOFT.
//
// A file holds R and not A and B, which are computed from the base again. Singular
// vectors have free signs, and R means nothing without them: peftkit takes those that
// PyTorch gives on x86-64 CPUs, see [linalg.TorchSVD]. A file that PEFT wrote on a
// GPU or with another LAPACK may have been made with others, which neither program
// can tell. Randomised decompositions (psoft_svd lowrank) have signs that are chance,
// and are refused. PEFT has PSOFT for plain linear layers alone, not for GPT-2's.
package psoft

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is PSOFT with PEFT's defaults. The learning rate is the one of OFT here.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "psoft", PeftType: "PSOFT", Group: peft.Reparametrisation,
		Doc:          "rotates what weights do within their first singular vectors",
		Reference:    "Wu et al. 2026, ICLR, openreview FSHrinMArK",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "number of singular vectors that are rotated"},
			peft.Option{Key: "psoft_alpha", Flag: "alpha", Default: 32.0, Doc: "scale of the change times r; it is divided out of the first values"},
			peft.Option{Key: "psoft_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of the change"},
			peft.Option{Key: "ab_svd_init", Default: psoftInit, Doc: "psoft_init (A has the vectors alone) or pissa_init (both factors have the roots of the values)"},
			peft.Option{Key: "psoft_svd", Default: "full", Doc: "decomposition; only full can be found again"},
			peft.Option{Key: "psoft_orth", Default: true, Doc: "false trains any matrix instead of a rotation"},
			peft.Option{Key: "psoft_mag_b", Default: true, Doc: "train a scale of each row of the rotation"},
			peft.Option{Key: "psoft_mag_a", Default: true, Doc: "train a scale of each column of the rotation"},
			peft.Option{Key: "use_cayley_neumann", Default: false, Doc: "the first terms of the series instead of an exact inverse"},
			peft.Option{Key: "num_cayley_neumann_terms", Default: 5, Doc: "terms of the series, at least 2"},
			peft.Option{Key: "cayley_neumann_eps", Doc: "bound of what the series is taken of, between 0 and 1"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws a rotation"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

const (
	psoftInit = "psoft_init"
	pissaInit = "pissa_init"
)

type config struct {
	R       int      `json:"r"`
	Alpha   float64  `json:"psoft_alpha"`
	Dropout float64  `json:"psoft_dropout"`
	Factors string   `json:"ab_svd_init"`
	SVD     string   `json:"psoft_svd"`
	Orth    bool     `json:"psoft_orth"`
	MagB    bool     `json:"psoft_mag_b"`
	MagA    bool     `json:"psoft_mag_a"`
	Neumann bool     `json:"use_cayley_neumann"`
	Terms   int      `json:"num_cayley_neumann_terms"`
	Eps     *float64 `json:"cayley_neumann_eps"`
	Init    bool     `json:"init_weights"`

	sites []*site
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Alpha: 32, Factors: psoftInit, SVD: "full", Orth: true, MagB: true, MagA: true, Terms: 5, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("psoft_dropout", cfg.Dropout); err != nil {
		return nil, err
	}
	switch {
	case cfg.Orth && cfg.R == 1:
		return nil, tuner.Invalid("r is 1, and one direction cannot be rotated: take a larger r, or psoft_orth false")
	case !(cfg.Alpha > 0):
		return nil, tuner.Invalid("psoft_alpha is %g, expected a positive number: the first values are divided by it", cfg.Alpha)
	case cfg.Factors != psoftInit && cfg.Factors != pissaInit:
		return nil, tuner.Invalid("ab_svd_init is %q, expected %s or %s", cfg.Factors, psoftInit, pissaInit)
	case cfg.SVD == "lowrank":
		return nil, tuner.Invalid("psoft_svd is lowrank, a randomised decomposition whose signs cannot be computed again: make the adapter with psoft_svd full; one that is trained can be merged by PEFT where it was made")
	case cfg.SVD != "full":
		return nil, tuner.Invalid("psoft_svd is %q, expected full", cfg.SVD)
	case cfg.Neumann && (cfg.Terms < 2 || cfg.Terms > 64):
		return nil, tuner.Invalid("num_cayley_neumann_terms is %d, expected 2 to 64", cfg.Terms)
	case cfg.Neumann && cfg.Eps != nil && !(*cfg.Eps > 0 && *cfg.Eps < 1):
		return nil, tuner.Invalid("cayley_neumann_eps is %g, expected more than 0 and less than 1", *cfg.Eps)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("PSOFT rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if _, err := p.Linear(); err != nil {
		return nil, err
	}
	if c.R > min(p.Out, p.In) {
		return nil, fmt.Errorf("the rank r is %d, which exceeds the smaller side of a weight [%d,%d]; give a smaller one: %w", c.R, p.Out, p.In, peft.ErrConfig)
	}
	s := &site{cfg: c, at: p}
	if c.Orth {
		s.r = p.Param("psoft_R.weight", c.R*(c.R-1)/2)
	} else {
		s.r = p.Param("psoft_R.weight", c.R, c.R)
	}
	if c.MagB {
		s.rows = p.Param("psoft_R.vector_b", c.R)
	}
	if c.MagA {
		s.cols = p.Param("psoft_R.vector_a", c.R)
	}
	c.sites = append(c.sites, s)
	return s, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// Check implements tuner.Checker: decompositions need no check.
func (c *config) Check() error { return nil }

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error { return c.decompose() }

// Loading implements tuner.Loader.
func (c *config) Loading(*tuner.Adapter, *peft.TensorSet) error { return c.decompose() }

// decompose computes A and B of all modules.
func (c *config) decompose() error {
	errs := make([]error, len(c.sites))
	kernels.Parallel(len(c.sites), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			errs[i] = c.sites[i].decompose()
		}
	})
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", c.sites[i].at.Path, err)
		}
	}
	return nil
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if !s.cfg.Init {
		tuner.Normal(s.r.V.Data, 0.1, rng.NormFloat64)
	}
	if !s.cfg.Orth {
		for i := range s.cfg.R {
			s.r.V.Data[i*s.cfg.R+i]++
		}
	}
	for _, p := range []*nn.Param{s.rows, s.cols} {
		if p == nil {
			continue
		}
		for i := range p.V.Data {
			p.V.Data[i] = 1
		}
	}
	return nil
}
