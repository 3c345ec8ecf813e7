// Package osf is orthogonal subspace fine-tuning (Nayak et al. 2025, arXiv 2504.07097)
// as a peftkit method: of the singular vectors of each weight the first are frozen and
// the rest is trained, with gradients that leave the frozen ones' space alone. Files are
// those of Hugging Face PEFT's OSF.
//
// A file holds the trained part. What it was at first is not in it and is computed from
// the base again, a whole singular value decomposition of each weight: that takes minutes
// where weights are large. Signs of vectors do not matter. PEFT rounds what it computes to
// the type of the base, peftkit has it in float32: on a base of 16 bits the two differ by
// that rounding. PEFT leaves layers that are not plain linear layers (GPT-2's) as they are
// without a word; here they are trained as all others, and PEFT does not read such a file.
package osf

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is OSF. The learning rate is that of PEFT's method comparison (MetaMathQA).
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "osf", PeftType: "OSF", Group: peft.Reparametrisation,
		Doc:          "trains weights but for their first singular vectors",
		Reference:    "Nayak et al. 2025, arXiv 2504.07097",
		LearningRate: 5e-5,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "effective_rank", Flag: "rank", Doc: "singular vectors that stay frozen: a number, or a share below 1 of the smaller side; half of them when it is not given"},
			peft.Option{Key: "rank_pattern", Doc: `effective_rank of single modules: {"expression found in the path": number or share}`},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws normal numbers"},
		),
	},
	NoExclude: true, NoLayers: true,
	Configure: configure,
	Targets:   targets,
}

// targets chooses what PEFT's OSF chooses.
func targets(c *peft.Config, m *model.Model) error {
	all := peft.Targets{Regex: peft.AllLinear}
	if m.Type() == "gpt2" {
		all = peft.Targets{List: []string{"c_attn", "c_proj"}}
	}
	c.SetTargets(all)
	return nil
}

type config struct {
	Init *bool `json:"init_weights"`

	ranks ranks
	sites []*site
	once  sync.Once
	err   error
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	var err error
	cfg.ranks, err = readRanks(c.Raw("effective_rank"), c.Raw("rank_pattern"))
	return cfg, err
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	if c.ranks.rest.given {
		return fmt.Sprintf("OSF behind rank %s", c.ranks.rest)
	}
	return "OSF behind half of the ranks"
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	least := min(p.Out, p.In)
	frozen, err := c.ranks.of(p.Path, least)
	if err != nil {
		return nil, err
	}
	r := least - frozen
	s := &site{
		cfg: c, at: p, layer: l, rank: r,
		u: p.Param("osf_svd_params.U_low", p.Out, r),
		s: p.Param("osf_svd_params.S_low", r),
		v: p.Param("osf_svd_params.V_low", r, p.In),
	}
	c.sites = append(c.sites, s)
	return s, nil
}

// Finish implements tuner.Finisher. As in PEFT a module may be frozen whole, where an
// effective_rank for larger ones exceeds it, but not every one.
func (c *config) Finish(*tuner.Adapter) error {
	most := 0
	for _, s := range c.sites {
		if s.rank > 0 {
			return nil
		}
		most = max(most, min(s.at.Out, s.at.In))
	}
	return tuner.Invalid("effective_rank and rank_pattern freeze all singular vectors of every module, %d at most: give a smaller effective_rank", most)
}

// Check implements tuner.Checker: decompositions need no check.
func (c *config) Check() error { return nil }

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error { return c.decompose() }

// Loading implements tuner.Loader. To train and to run, weights are decomposed when the
// sites are attached; a merge decomposes them one by one, and has no way to fail then.
func (c *config) Loading(*tuner.Adapter, *peft.TensorSet) error {
	for _, s := range c.sites {
		if err := s.finite(); err != nil {
			return fmt.Errorf("%s: %w", s.at.Path, err)
		}
	}
	return nil
}

// decompose splits the weights of all modules, once.
func (c *config) decompose() error {
	c.once.Do(func() {
		errs := make([]error, len(c.sites))
		kernels.Parallel(len(c.sites), 1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				if s := c.sites[i]; s.rank > 0 {
					s.was, errs[i] = split(s.at, s.rank)
				}
			}
		})
		for i, err := range errs {
			if err != nil {
				c.err = fmt.Errorf("%s: %w", c.sites[i].at.Path, err)
				return
			}
		}
	})
	return c.err
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if s.rank == 0 {
		return nil
	}
	if s.cfg.Init != nil && !*s.cfg.Init {
		for _, p := range []*nn.Param{s.u, s.s, s.v} {
			tuner.Normal(p.V.Data, 1, rng.NormFloat64)
		}
		return nil
	}
	copy(s.u.V.Data, s.was.u.Data)
	copy(s.s.V.Data, s.was.s.Data)
	copy(s.v.V.Data, s.was.v.Data)
	return nil
}

// Check implements tuner.Checker.
func (s *site) Check() error { return nil }

// finite refuses weights that have no singular values.
func (s *site) finite() error {
	w := s.at.Mod.Weight()
	rows, cols := stored(w.Transposed, s.at.Out, s.at.In)
	row := make([]float32, cols)
	for r := range rows {
		w.Row(row, r)
		for i, x := range row {
			if x-x != 0 {
				return fmt.Errorf("element [%d,%d] of the base weight is %v: such a weight has no singular vectors, leave the module out (exclude_modules): %w", r, i, x, peft.ErrConfig)
			}
		}
	}
	return nil
}

// stored is the stored shape of a weight.
func stored(transposed bool, out, in int) (rows, cols int) {
	if transposed {
		return in, out
	}
	return out, in
}
