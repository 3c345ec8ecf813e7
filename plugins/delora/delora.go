// Package delora is DeLoRA (Bini et al. 2025, arXiv 2503.18225) as a peftkit
// method: a low-rank update whose factors are normalised, so that one learned
// number bounds its size. Files are those of Hugging Face PEFT's DELORA.
package delora

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is DeLoRA, with the rank and learning rate of PEFT's method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "delora", PeftType: "DELORA", Group: peft.Reparametrisation,
		Doc:          "a low-rank update of bounded size",
		Reference:    "Bini et al. 2025, arXiv 2503.18225",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 16, Doc: "rank of the update"},
			peft.Option{Key: "delora_lambda", Default: 15.0, Doc: "bound of the update's size at the start"},
			peft.Option{Key: "module_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of A"},
			peft.Option{Key: "rank_pattern", Doc: "rank of single modules: {pattern: rank}"},
			peft.Option{Key: "lambda_pattern", Doc: "bound of single modules: {pattern: lambda}"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true (A uniform, B zero) or false (both random)"},
			tuner.BiasOption("delora"),
		),
	},
	Configure: configure,
}

type config struct {
	R       int     `json:"r"`
	Lambda  float64 `json:"delora_lambda"`
	Dropout float64 `json:"module_dropout"`
	Init    bool    `json:"init_weights"`

	ranks, lambdas tuner.Patterns
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 8, Lambda: 15, Init: true}
	err := c.Decode(cfg)
	if err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if err := tuner.CheckShare("module_dropout", cfg.Dropout); err != nil {
		return nil, err
	}
	if cfg.ranks, err = tuner.ReadPatterns(c, "rank_pattern"); err != nil {
		return nil, err
	}
	cfg.lambdas, err = tuner.ReadPatterns(c, "lambda_pattern")
	return cfg, err
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("DeLoRA rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	r, err := c.ranks.Count(p.Path, c.R)
	if err != nil {
		return nil, err
	}
	lambda, err := c.lambdas.Value(p.Path, c.Lambda)
	if err != nil {
		return nil, err
	}
	return &site{
		cfg: c, place: p, layer: l, start: lambda,
		a: p.Param("delora_A", r, p.In), b: p.Param("delora_B", p.Out, r), lambda: p.Param("delora_lambda", 1),
		norm: p.Buffer("delora_w_norm", p.In),
	}, nil
}

type site struct {
	cfg                *config
	place              *tuner.Place
	layer              *nn.LinearLayer
	start              float64
	a, b, lambda, norm *nn.Param

	merged tuner.Fixed // the factors
}

// Init implements tuner.Site. The norms of the weight's columns are kept with
// the adapter.
func (s *site) Init(rng *rand.Rand) error {
	tuner.Uniform(s.a.V.Data, 1/math.Sqrt(float64(s.a.V.Cols)), rng.Float64)
	if !s.cfg.Init {
		tuner.Uniform(s.b.V.Data, 1/math.Sqrt(float64(s.b.V.Cols)), rng.Float64)
	}
	s.lambda.V.Data[0] = float32(s.start)
	sums := make([]float64, s.place.In)
	w := s.place.Weight()
	for r := range w.Rows {
		for i, x := range w.Row(r) {
			sums[i] += float64(x) * float64(x)
		}
	}
	for i, x := range sums {
		s.norm.V.Data[i] = float32(math.Sqrt(x))
	}
	return nil
}

// factors returns A with its columns scaled by the weight's norms, and B with its
// columns scaled to the bound.
func (s *site) factors(t *nn.Tape) (a, b *nn.Var) {
	const least = 1e-4
	r := s.a.V.Rows
	an, bn := nn.RowNorm(t, s.a.V, least), nn.RowNorm(t, nn.Transpose(t, s.b.V), least)
	share := &nn.Var{Rows: r, Cols: 1, Data: make([]float32, r)}
	for i := range share.Data {
		share.Data[i] = 1 / float32(r)
	}
	scale := nn.ScaleBy(t, nn.Div(t, share, nn.Mul(t, an, bn)), nn.View(t, s.lambda.V, 1, 1))
	return nn.MulRow(t, s.a.V, s.norm.V), nn.MulRow(t, s.b.V, nn.View(t, scale, 1, r))
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	p := float32(s.cfg.Dropout)
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		a, b := s.factors(t)
		lr := nn.LowRank{A: a, B: b, Scale: scale}
		if p > 0 && t.Train {
			lr.X = nn.Dropout(t, x, p)
		}
		return lr
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	f := s.merged.Of(func(t *nn.Tape) []*nn.Var {
		a, b := s.factors(t)
		return []*nn.Var{a, b}
	})
	tuner.AddProduct(w, f[1].Mat().RowsOf(r0, r1), f[0].Mat(), scale)
}
