// Package osf is orthogonal subspace fine-tuning (Nayak et al. 2025, arXiv 2504.07097)
// as a peftkit method: the largest singular directions of each weight stay as they are,
// and the rest is trained in full at right angles to them, so that what the model knows
// is kept. Files are those of Hugging Face PEFT's OSF.
//
// By default half of the directions of a weight are trained, which is as many numbers as
// the weight has: OSF spares what is known, not parameters. A model begins with a
// decomposition of every weight.
package osf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/dlclark/regexp2"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is OSF. The learning rate is that of PEFT's method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "osf", PeftType: "OSF", Group: peft.Reparametrisation,
		Doc:          "trains the smaller singular directions of weights, at right angles to the larger ones",
		Reference:    "Nayak et al. 2025, arXiv 2504.07097",
		LearningRate: 5e-5,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "effective_rank", Doc: "singular directions of a weight that stay: a number, or a share such as 0.9 (default half)"},
			peft.Option{Key: "rank_pattern", Doc: "an object of regular expressions that are found in modules' paths, and numbers or shares for those"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws all trained numbers"},
		),
	},
	Configure: configure,
	Targets:   tuner.TargetTable(nil),
	NoExclude: true, NoLayers: true,
}

type config struct {
	Rank json.RawMessage `json:"effective_rank"`
	Init *bool           `json:"init_weights"`

	patterns []pattern
	sites    []*site
}

// pattern gives the modules in whose path it is found a rank.
type pattern struct {
	expr *regexp2.Regexp
	rank json.RawMessage
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	list, err := peft.Patterns(c.Raw("rank_pattern"))
	if err != nil {
		return nil, tuner.Invalid("rank_pattern: %w", err)
	}
	var values map[string]json.RawMessage
	if len(list) > 0 {
		if err := json.Unmarshal(c.Raw("rank_pattern"), &values); err != nil {
			return nil, tuner.Invalid("rank_pattern: %w", err)
		}
	}
	for _, p := range list {
		expr, err := regexp2.Compile(p.Key, regexp2.None)
		if err != nil {
			return nil, tuner.Invalid("rank_pattern: %q: %w", p.Key, err)
		}
		cfg.patterns = append(cfg.patterns, pattern{expr, values[p.Key]})
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	if len(c.Rank) == 0 || string(c.Rank) == "null" {
		return "OSF that keeps half of the directions"
	}
	return fmt.Sprintf("OSF that keeps %s directions", c.Rank)
}

// rank returns how many directions of a module stay. As in PEFT a number with a point
// from 0 to 1 is a share.
func (c *config) rank(path string, all int) (int, error) {
	raw := bytes.TrimSpace(c.Rank)
	for _, p := range c.patterns {
		found, err := p.expr.MatchString(path)
		if err != nil {
			return 0, tuner.Invalid("rank_pattern: %w", err)
		}
		if found {
			raw = bytes.TrimSpace(p.rank)
			break
		}
	}
	if len(raw) == 0 || string(raw) == "null" {
		return all / 2, nil
	}
	var v float64
	if err := json.Unmarshal(raw, &v); err != nil {
		return 0, tuner.Invalid("effective_rank is %.40s, expected a number", raw)
	}
	if bytes.ContainsAny(raw, ".eE") && v > 0 && v <= 1 {
		v *= float64(all)
	}
	return min(all, int(v)), nil
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	all := min(p.In, p.Out)
	keep, err := c.rank(p.Path, all)
	if err != nil {
		return nil, err
	}
	if keep < 1 || keep >= all {
		return nil, tuner.Invalid("effective_rank keeps %d of its weight's %d singular directions, expected 1 to %d: one at least is to be trained", keep, all, all-1)
	}
	r := all - keep
	s := &site{
		place: p, layer: l, keep: keep,
		u: p.Param("osf_svd_params.U_low", p.Out, r), s: p.Param("osf_svd_params.S_low", r), v: p.Param("osf_svd_params.V_low", r, p.In),
	}
	c.sites = append(c.sites, s)
	return s, nil
}

// Check implements tuner.Checker: decompositions need no check.
func (c *config) Check() error { return nil }

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error { return c.decompose(c.Init == nil || *c.Init) }

// Loading implements tuner.Loader.
func (c *config) Loading(*tuner.Adapter, *peft.TensorSet) error { return c.decompose(false) }

// decompose finds the singular directions of all weights, and begins from them.
func (c *config) decompose(begin bool) error {
	errs := make([]error, len(c.sites))
	kernels.Parallel(len(c.sites), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			errs[i] = c.sites[i].decompose(begin)
		}
	})
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", c.sites[i].place.Path, err)
		}
	}
	return nil
}

type site struct {
	place   *tuner.Place
	layer   *nn.LinearLayer
	keep    int
	u, s, v *nn.Param // [out, r], [r] and [r, in]
	// high are the directions that stay, of the outputs [out, keep] and of the inputs
	// [keep, in]; low is what the others gave at first, U S and V.
	highU, highV kernels.Mat
	lowU, lowV   *nn.Var
}

func (s *site) decompose(begin bool) error {
	w := s.place.Weight()
	u, values, vt, err := linalg.SVD(w.Data, w.Rows, w.Cols)
	if err != nil {
		return err
	}
	all, r := len(values), len(values)-s.keep
	s.highU, s.highV = kernels.NewMat(w.Rows, s.keep), kernels.MatOf(vt[:s.keep*w.Cols], s.keep, w.Cols)
	s.lowU = tuner.Constant(make([]float32, w.Rows*r), w.Rows, r)
	s.lowV = tuner.Constant(vt[s.keep*w.Cols:], r, w.Cols)
	for i := range w.Rows {
		row := u[i*all : (i+1)*all]
		copy(s.highU.Row(i), row)
		if begin {
			copy(s.u.V.Data[i*r:], row[s.keep:])
		}
		for k, x := range row[s.keep:] {
			s.lowU.Data[i*r+k] = x * values[s.keep+k]
		}
	}
	if begin {
		copy(s.s.V.Data, values[s.keep:])
		copy(s.v.V.Data, s.lowV.Data)
	}
	return nil
}

// Init implements tuner.Site: what was not begun from the weight is drawn.
func (s *site) Init(rng *rand.Rand) error {
	for _, x := range s.s.V.Data {
		if x != 0 {
			return nil
		}
	}
	for _, p := range []*nn.Param{s.u, s.s, s.v} {
		tuner.Normal(p.V.Data, 1, rng.NormFloat64)
	}
	return nil
}
