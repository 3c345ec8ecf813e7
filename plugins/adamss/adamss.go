// Package adamss is AdaMSS (Zheng et al. 2025, NeurIPS) as a peftkit method: the
// rows of a weight are put into clusters by its left singular vectors, and each
// cluster gets a small low-rank change within the space of the right ones. Files
// are those of Hugging Face PEFT's ADAMSS.
//
// A file says how many rows a cluster has but not which: PEFT finds them again from
// the base, by a randomised decomposition and k-means with fixed seeds. So does this
// package, number by number, and an adapter fits the very base it was made on:
// clusters of another size than the file's are an error. With as many singular vectors
// as rows all rows are equally far apart and rounding alone decides: that is refused.
package adamss

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is AdaMSS. PEFT's method comparison has a learning rate of 1e-4 for 5000
// steps; the higher one is for the shorter runs of a laptop.
var Method peft.Method = method{&tuner.Method{
	Facts: peft.Info{
		Name: "adamss", PeftType: "ADAMSS", Group: peft.Reparametrisation,
		Doc:          "low-rank changes of clusters of a weight's rows, found by its singular vectors",
		Reference:    "Zheng et al. 2025, NeurIPS",
		LearningRate: 5e-3,
		Options: tuner.Options("",
			peft.Option{Key: "r", Flag: "rank", Doc: "singular vectors that the changes are made of, fewer than the rows of a weight (default 100, or one fewer than the rows)"},
			peft.Option{Key: "num_subspaces", Default: 5, Doc: "clusters of rows of a weight"},
			peft.Option{Key: "subspace_rank", Default: 1, Doc: "rank of the change of each cluster"},
			peft.Option{Key: "init_weights", Default: "orthogonal", Doc: "orthogonal starts without effect; false draws B"},
			peft.Option{Key: "use_dynamic_rank", Default: false, Doc: "ranks up to subspace_rank by the singular values of each cluster"},
			peft.Option{Key: "svd_threshold", Default: 0.1, Doc: "share of the largest singular value (squared) that counts for such a rank"},
			peft.Option{Key: "use_asa", Default: false, Doc: "freeze the clusters that matter least while training"},
			peft.Option{Key: "asa_target_subspaces", Default: 50, Doc: "clusters of all weights that are trained to the end"},
			peft.Option{Key: "init_warmup", Default: 50, Doc: "step at which freezing begins"},
			peft.Option{Key: "final_warmup", Default: 1000, Doc: "step at which it has reached its target"},
			peft.Option{Key: "mask_interval", Default: 100, Doc: "steps from one choice to the next"},
			peft.Option{Key: "asa_importance_beta", Default: 0.85, Doc: "smoothing of the importance"},
			peft.Option{Key: "asa_uncertainty_beta", Default: 0.85, Doc: "smoothing of its uncertainty"},
			peft.Option{Key: "asa_schedule_exponent", Default: 3.0, Doc: "how fast freezing begins"},
			peft.Option{Key: "random_seed", Default: 0, Doc: "seed of the decomposition"},
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
	Aim:       fit,
}}

// fit sets the default rank below the rows of every target.
func fit(c *peft.Config, m *model.Model) error {
	if c.Raw("r") != nil {
		return nil
	}
	r := 100
	for _, mod := range m.Modules {
		hit, err := c.Hits(mod)
		if err != nil {
			return err
		}
		if hit && mod.Linear != nil {
			r = min(r, max(1, mod.Linear.W.Out-1))
		}
	}
	c.Set("r", r)
	return nil
}

type method struct{ *tuner.Method }

// New implements peft.Method.
func (m method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	ad, err := m.Method.New(mod, o, seed)
	if err != nil {
		return nil, err
	}
	return wrap(ad.(*tuner.Adapter)), nil
}

// Load implements peft.Method.
func (m method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	ad, err := m.Method.Load(mod, a, scale)
	if err != nil {
		return nil, err
	}
	return wrap(ad.(*tuner.Adapter)), nil
}

type config struct {
	R           int             `json:"r"`
	Subspaces   int             `json:"num_subspaces"`
	Rank        int             `json:"subspace_rank"`
	Init        json.RawMessage `json:"init_weights"`
	Dynamic     bool            `json:"use_dynamic_rank"`
	Threshold   float64         `json:"svd_threshold"`
	Seed        uint32          `json:"random_seed"`
	ASA         bool            `json:"use_asa"`
	Target      int             `json:"asa_target_subspaces"`
	First       int             `json:"init_warmup"`
	Last        int             `json:"final_warmup"`
	Interval    int             `json:"mask_interval"`
	Importance  float64         `json:"asa_importance_beta"`
	Uncertainty float64         `json:"asa_uncertainty_beta"`
	Exponent    float64         `json:"asa_schedule_exponent"`

	zero bool // B begins as zero
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 100, Subspaces: 5, Rank: 1, Threshold: 0.1, Target: 50, First: 50, Last: 1000, Interval: 100, Importance: 0.85, Uncertainty: 0.85, Exponent: 3}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch v := strings.Trim(string(cfg.Init), `"`); v {
	case "", "orthogonal":
		cfg.zero = true
	case "null", "false":
	default:
		return nil, tuner.Invalid("init_weights is %.40s, expected orthogonal, null or false", cfg.Init)
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("subspace_rank", cfg.Rank); err != nil {
		return nil, err
	}
	if cfg.Subspaces < 1 || cfg.Subspaces > 1<<16 {
		return nil, tuner.Invalid("num_subspaces is %d, expected 1 to %d", cfg.Subspaces, 1<<16)
	}
	return cfg, cfg.checkASA()
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("AdaMSS of %d clusters of rank %d", c.Subspaces, c.Rank)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	w := withBias(p, l)
	s := &site{layer: l, cfg: c, in: p.In, out: p.Out}
	q, k := min(c.R, w.Rows, w.Cols), min(c.Subspaces, p.Out)
	if q == p.Out && k > 1 && k < p.Out {
		return nil, tuner.Invalid("r is %d and its weight has %d rows, which are all equally far apart in the space of as many singular vectors: rounding alone would choose its clusters, and no file tells them; choose r below %d", c.R, p.Out, p.Out)
	}
	left, right, err := lowRank(w, q, c.Seed)
	if err != nil {
		return nil, err
	}
	if s.rows, err = cluster(left, k); err != nil {
		return nil, err
	}
	s.base = p.Buffer("adamss_newB", q, w.Cols)
	copy(s.base.V.Data, right.Data)
	for i, rows := range s.rows {
		basis, rank, err := c.start(left, rows)
		if err != nil {
			return nil, err
		}
		a, b := p.Param(fmt.Sprintf("adamss_A.%d", i), rank, q), p.Param(fmt.Sprintf("adamss_B.%d", i), len(rows), rank)
		copy(a.V.Data, basis)
		s.a, s.b = append(s.a, a), append(s.b, b)
	}
	return s, nil
}

// withBias returns a layer's weight, its bias as one more column.
func withBias(p *tuner.Place, l *nn.LinearLayer) kernels.Mat {
	w := p.Weight()
	if l.Bias == nil {
		return w
	}
	bias := make([]float32, p.Out)
	l.Bias.Row(bias, 0)
	wide := kernels.NewMat(w.Rows, w.Cols+1)
	for r := range w.Rows {
		copy(wide.Row(r), w.Row(r))
		wide.Row(r)[w.Cols] = bias[r]
	}
	return wide
}

// start returns the rank of a cluster's change and its A, [rank, q]: the first right
// singular vectors of the cluster's rows of left.
func (c *config) start(left kernels.Mat, rows []int32) (a []float32, rank int, err error) {
	part := kernels.NewMat(len(rows), left.Cols)
	for i, r := range rows {
		copy(part.Row(i), left.Row(int(r)))
	}
	_, values, vt, err := linalg.SVD(part.Data, part.Rows, part.Cols)
	if err != nil {
		return nil, 0, err
	}
	rank = min(c.Rank, len(rows))
	if c.Dynamic {
		n := 0
		for _, v := range values { // PEFT compares those of the Gram matrix
			if float64(v)*float64(v) > c.Threshold*float64(values[0])*float64(values[0]) {
				n++
			}
		}
		rank = max(1, min(rank, n))
	}
	if rank > len(values) {
		return nil, 0, tuner.Invalid("subspace_rank is %d, expected at most the %d singular vectors that r and the weight leave", c.Rank, len(values))
	}
	return vt[:rank*left.Cols], rank, nil
}

// Loading implements tuner.Loader: the ranks of clusters are those of the file, and
// their sizes have to be.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	for i, x := range a.Sites {
		s := x.(*site)
		for k := range s.rows {
			t := set.Peek(s.b[k].Name)
			if t == nil || len(t.Shape) != 2 {
				continue // reported with the rest
			}
			if t.Shape[0] != len(s.rows[k]) {
				return fmt.Errorf("%s: cluster %d has %d rows in the file and %d of this base model: AdaMSS finds the rows by the base's weights, so load the adapter on the model that it was trained on, not quantised otherwise: %w",
					a.Places[i].Path, k, t.Shape[0], len(s.rows[k]), peft.ErrTensors)
			}
			if rank := t.Shape[1]; rank != s.b[k].Shape[1] && rank > 0 && rank <= c.Rank {
				*s.a[k] = *nn.NewParam(s.a[k].Name, rank, s.a[k].Shape[1])
				*s.b[k] = *nn.NewParam(s.b[k].Name, len(s.rows[k]), rank)
			}
		}
	}
	return nil
}

type site struct {
	cfg     *config
	layer   *nn.LinearLayer
	in, out int
	rows    [][]int32   // of each cluster
	a, b    []*nn.Param // [rank, q] and [rows, rank] of each
	base    *nn.Param   // [q, in], or [q, in+1] with a bias: the right singular vectors

	merged tuner.Fixed
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if !s.cfg.zero {
		for _, b := range s.b {
			tuner.Normal(b.V.Data, 0.01, rng.NormFloat64)
		}
	}
	return nil
}
