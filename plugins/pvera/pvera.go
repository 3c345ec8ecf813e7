// Package pvera is PVeRA (Leclerc et al. 2025, arXiv 2512.07703) as a peftkit method:
// VeRA whose inner vector gives the mean and the variance of what is drawn while it
// trains. Afterwards the mean alone counts. Files are those of Hugging Face PEFT's PVERA;
// where they do not hold the shared matrices, they are drawn as PyTorch draws them.
package pvera

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is PVeRA. The learning rate is VeRA's.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "pvera", PeftType: "PVERA", Group: peft.Reparametrisation,
		Doc:          "VeRA that draws what lies between its matrices while it trains",
		Reference:    "Leclerc et al. 2025, arXiv 2512.07703",
		LearningRate: 4e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 256, Doc: "rank of the shared matrices"},
			peft.Option{Key: "pvera_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input"},
			peft.Option{Key: "d_initial", Default: 0.1, Doc: "first value of the inner vector"},
			peft.Option{Key: "sample_at_inference", Default: false, Doc: "draw after training too: the same text has other logits each time"},
			peft.Option{Key: "generator_seed", Doc: "draw PyTorch's numbers from this seed (slower; the default follows the run's seed)"},
			peft.Option{Key: "projection_prng_key", Default: 0, Doc: "seed of the shared matrices"},
			peft.Option{Key: "save_projection", Default: true, Doc: "keep the shared matrices in the file; else they are drawn again"},
			tuner.BiasOption("pvera"),
			peft.Option{Key: "init_weights", Default: true, Doc: "start from no change; false draws the inner vector"},
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	tuner.Projection
	R         int     `json:"r"`
	Dropout   float64 `json:"pvera_dropout"`
	D         float64 `json:"d_initial"`
	Always    bool    `json:"sample_at_inference"`
	Generator *uint64 `json:"generator_seed"`
	Init      bool    `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Projection: tuner.Projection{Save: true}, R: 256, D: 0.1, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	return cfg, tuner.CheckShare("pvera_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("PVeRA rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	h.Write([]byte(p.Path))
	s := &site{cfg: c, layer: l, out: p.Out, in: p.In, key: h.Sum64(), lb: p.Param("pvera_lambda_b", p.Out), ld: p.Param("pvera_lambda_d", 2*c.R)}
	if c.Generator != nil {
		s.rng = torchrng.New(*c.Generator)
		p.Model.WholeText = true // PyTorch draws for the last token too
	}
	return s, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	c.Declare(a, "pvera", 2*c.R, c.R)
	return nil
}

// site adds diag(lb)·B·h, where h has the first half of diag(ld)·A·x for its mean and the
// exponential of the second for its variance.
type site struct {
	cfg     *config
	layer   *nn.LinearLayer
	out, in int
	key     uint64              // of the layer, for what is drawn
	rng     *torchrng.Generator // with generator_seed
	lb, ld  *nn.Param

	once sync.Once
	rows kernels.Mat // the first half of diag(ld)·A
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

// Attach implements tuner.Site. The gradient of neither shared matrix is computed.
func (s *site) Attach(scale float32) error {
	r := s.cfg.R
	a, b := s.cfg.First(s.in), s.cfg.Top(s.out)
	mean := tuner.Constant(a.Data[:r*s.in], r, s.in)
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		x = nn.Dropout(t, x, float32(s.cfg.Dropout))
		up := nn.MulCol(t, b, s.lb.V)
		d := nn.View(t, s.ld.V, 1, 2*r)
		if !t.Train && !s.cfg.Always {
			return nn.LowRank{X: nn.MulRow(t, nn.MatMulT(t, x, mean), nn.Columns(t, d, 0, r)), B: up, Scale: scale}
		}
		z := nn.MulRow(t, nn.MatMulT(t, x, a), d)
		deviation := nn.Exp(t, nn.Scale(t, nn.Columns(t, z, r, 2*r), 0.5))
		h := nn.Sum(t, nn.Columns(t, z, 0, r), nn.Mul(t, deviation, s.noise(t, x.Rows)))
		return nn.LowRank{X: h, B: up, Scale: scale}
	})
	return nil
}

// noise returns normal numbers, [rows, r]: PyTorch's next ones of the seed that was given,
// or those that follow from the step, the layer and the row.
func (s *site) noise(t *nn.Tape, rows int) *nn.Var {
	r := s.cfg.R
	out := tuner.Constant(make([]float32, rows*r), rows, r)
	if s.rng != nil && !t.Trial {
		s.rng.Normal(out.Data, 0, 1)
		return out
	}
	kernels.Parallel(rows, 8, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			rng := rand.New(rand.NewPCG(t.Seed^s.key, uint64(i)))
			for j := range r {
				out.Data[i*r+j] = float32(rng.NormFloat64())
			}
		}
	})
	return out
}

// MergeRows implements tuner.RowMerging: the mean.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	r := s.cfg.R
	s.once.Do(func() {
		s.rows = kernels.NewMat(r, s.in)
		for i := range r {
			copy(s.rows.Row(i), s.cfg.A.V.Data[i*s.cfg.A.V.Cols:])
			kernels.Scale(s.rows.Row(i), s.ld.V.Data[i])
		}
	})
	b := kernels.NewMat(r1-r0, r)
	for i := r0; i < r1; i++ {
		copy(b.Row(i-r0), s.cfg.B.V.Data[i*r:])
		kernels.Scale(b.Row(i-r0), s.lb.V.Data[i])
	}
	tuner.AddProduct(w, b, s.rows, scale)
}
