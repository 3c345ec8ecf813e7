// Package tinylora is TinyLoRA (Learning to Reason in 13 Parameters, arXiv
// 2602.04118) as a peftkit method: a weight changes by B R A, where A and B are its
// first singular vectors and R is a sum of fixed random matrices, weighted by a
// short trained vector that modules may share. Files are those of Hugging Face
// PEFT's TINYLORA; the random matrices that one does not hold are drawn as PyTorch
// draws them. Singular vectors lie in the file, so their signs are free.
package tinylora

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is TinyLoRA with PEFT's defaults. Neither the paper nor PEFT gives a
// learning rate for training on texts; this one is for so few numbers.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "tinylora", PeftType: "TINYLORA", Group: peft.Reparametrisation,
		Doc:          "moves weights within their first singular vectors by a handful of numbers",
		Reference:    "Morris et al. 2026, arXiv 2602.04118",
		LearningRate: 5e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 2, Doc: "number of singular vectors of each weight"},
			peft.Option{Key: "u", Default: 64, Doc: "length of the trained vectors"},
			peft.Option{Key: "weight_tying", Default: 0.0, Doc: "how many modules share a vector: 0 none, 1 all"},
			peft.Option{Key: "projection_seed", Default: 42, Doc: "seed of the random matrices"},
			peft.Option{Key: "save_projection", Default: true, Doc: "keep the random matrices in the file; else they are drawn again"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true starts from no change; uniform draws the vectors"},
			peft.Option{Key: "init_v_bound", Default: 0.02, Doc: "largest number of vectors that begin uniform"},
			peft.Option{Key: "tinylora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input"},
			tuner.BiasOption("tinylora"),
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int             `json:"r"`
	U       int             `json:"u"`
	Tying   float64         `json:"weight_tying"`
	Seed    int64           `json:"projection_seed"`
	Save    bool            `json:"save_projection"`
	Bound   float64         `json:"init_v_bound"`
	Dropout float64         `json:"tinylora_dropout"`
	Init    json.RawMessage `json:"init_weights"`

	kind    string // true, uniform or false
	sites   []*site
	vectors []*nn.Param
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 2, U: 64, Seed: 42, Save: true, Bound: 0.02}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch cfg.kind = strings.Trim(string(cfg.Init), `"`); cfg.kind {
	case "", "null":
		cfg.kind = "true"
	case "true", "uniform", "false":
	default:
		return nil, tuner.Invalid("init_weights is %.40s, expected true, uniform or false", cfg.Init)
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("tinylora_dropout", cfg.Dropout); err != nil {
		return nil, err
	}
	switch {
	case cfg.U < 1 || cfg.U > 1<<20:
		return nil, tuner.Invalid("u is %d, expected 1 to %d", cfg.U, 1<<20)
	case !(cfg.Tying >= 0 && cfg.Tying <= 1):
		return nil, tuner.Invalid("weight_tying is %g, expected 0 to 1", cfg.Tying)
	case !(cfg.Bound >= 0) || math.IsInf(cfg.Bound, 0):
		return nil, tuner.Invalid("init_v_bound is %g, expected at least 0", cfg.Bound)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("TinyLoRA rank %d, %d vectors of %d", c.R, len(c.vectors), c.U)
}

// Site implements tuner.Tuner. A small module has fewer singular vectors.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if p.Mod.Embedding == nil {
		if _, err := p.Linear(); err != nil {
			return nil, err
		}
	}
	r := min(c.R, p.Out, p.In)
	if n := c.U * r * r; n/c.U != r*r || n > 1<<28 {
		return nil, fmt.Errorf("u %d and r %d make random matrices of %d numbers for each module, more than %d: %w", c.U, r, n, 1<<28, peft.ErrConfig)
	}
	s := &site{
		cfg: c, at: p, index: len(c.sites), rank: r,
		a: p.Buffer("tinylora_A", r, p.In), b: p.Buffer("tinylora_B", p.Out, r),
		p: p.Buffer("tinylora_P", c.U, r, r),
	}
	c.sites = append(c.sites, s)
	return s, nil
}

// Finish implements tuner.Finisher: it gives the modules their vectors. How many
// there are, and who shares one, depends on the number and order of all modules.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	n := len(c.sites)
	groups := max(1, int(math.RoundToEven(float64(n)*(1-c.Tying))))
	size := max(1, n/groups)
	for g := range groups {
		c.vectors = append(c.vectors, a.Places[0].Shared(fmt.Sprint("tinylora_v.", g), true, c.U))
	}
	for i, s := range c.sites {
		s.v = c.vectors[min(i/size, groups-1)]
		if !c.Save {
			s.draw()
			a.Drop(s.p)
		}
	}
	return nil
}

// Check implements tuner.Checker.
func (c *config) Check() error {
	if c.kind == "false" {
		return tuner.Invalid("init_weights false leaves the trained vectors to whatever lies in memory; give true or uniform")
	}
	return nil
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(seed uint64) error {
	if err := c.Check(); err != nil {
		return err
	}
	if c.kind == "uniform" {
		rng := rand.New(rand.NewPCG(seed, 0x71e1))
		for _, v := range c.vectors {
			tuner.Uniform(v.V.Data, c.Bound, rng.Float64)
		}
	}
	return nil
}

// Loading implements tuner.Loader. Random matrices that the file should hold and
// does not are drawn, as PEFT does; those that it should not hold may only be there
// if they are the ones that it says to draw.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	for _, s := range c.sites {
		has := set.Has(s.p.Name)
		switch {
		case c.Save && !has:
			s.draw()
			a.Drop(s.p)
		case !c.Save && has:
			got, err := set.Take(s.p.Name).AllFloats()
			if err != nil {
				return err
			}
			if !slices.Equal(got, s.p.V.Data) {
				return fmt.Errorf("%s is in the file, but not what projection_seed %d gives, and save_projection is false; set that to true to use the file's: %w", s.p.Name, c.Seed, peft.ErrTensors)
			}
		}
	}
	return nil
}

// draw fills the random matrices of a module: normal numbers of variance 1/r, from
// a seed that depends on the module's place among all.
func (s *site) draw() {
	torchrng.New(uint64(s.cfg.Seed+int64(s.index))).Normal(s.p.V.Data, 0, 1/math.Sqrt(float64(s.rank)))
}
