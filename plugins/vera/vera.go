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
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/peftkit/peftkit/internal/torchrng"
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
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Key     uint64  `json:"projection_prng_key"`
	Save    bool    `json:"save_projection"`
	Dropout float64 `json:"vera_dropout"`
	D       float64 `json:"d_initial"`
	Init    bool    `json:"init_weights"`

	a, b   *nn.Param       // [r, largest in], [largest out, r]
	narrow map[int]*nn.Var // a's first columns
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 256, Save: true, D: 0.1, Init: true, narrow: map[int]*nn.Var{}}
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

// Finish implements tuner.Finisher: the shared matrices are as large as the
// largest module.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	in, out := 0, 0
	for _, p := range a.Places {
		in, out = max(in, p.In), max(out, p.Out)
	}
	c.a = a.Places[0].Shared("vera_A", false, c.R, in)
	c.b = a.Places[0].Shared("vera_B", false, out, c.R)
	if !c.Save {
		a.Drop(c.a)
		a.Drop(c.b)
		c.draw(c.a.V.Data, c.b.V.Data)
	}
	return nil
}

// draw fills the matrices as PEFT does: uniform for the variance of He et al. 2015.
func (c *config) draw(a, b []float32) {
	rng := torchrng.New(c.Key)
	for _, m := range []struct {
		data []float32
		cols int
	}{{a, c.a.V.Cols}, {b, c.b.V.Cols}} {
		bound := math.Sqrt(3) * (math.Sqrt(2) / math.Sqrt(float64(m.cols)))
		rng.Uniform(m.data, -bound, bound)
	}
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error {
	c.draw(c.a.V.Data, c.b.V.Data)
	return nil
}

// Loading implements tuner.Loader: matrices that the configuration says are not
// in the file may only be there if they are the ones that it says to draw.
func (c *config) Loading(_ *tuner.Adapter, set *peft.TensorSet) error {
	for _, p := range []*nn.Param{c.a, c.b} {
		if c.Save || !set.Has(p.Name) {
			continue
		}
		got, err := set.Take(p.Name).AllFloats()
		if err != nil {
			return err
		}
		if !slices.Equal(got, p.V.Data) {
			return fmt.Errorf("%s is in the file, but not what projection_prng_key %d gives, and save_projection is false; set that to true to use the file's: %w", p.Name, c.Key, peft.ErrTensors)
		}
	}
	return nil
}

// first returns the first in columns of the shared A.
func (c *config) first(in int) *nn.Var {
	if in == c.a.V.Cols {
		return c.a.V
	}
	if c.narrow[in] == nil {
		v := tuner.Constant(make([]float32, c.R*in), c.R, in)
		for r := range c.R {
			copy(v.Data[r*in:(r+1)*in], c.a.V.Data[r*c.a.V.Cols:])
		}
		c.narrow[in] = v
	}
	return c.narrow[in]
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
			copy(s.rows.Row(r), s.cfg.a.V.Data[r*s.cfg.a.V.Cols:])
			kernels.Scale(s.rows.Row(r), s.ld.V.Data[r])
		}
	})
	b := kernels.NewMat(r1-r0, s.cfg.R)
	for r := r0; r < r1; r++ {
		copy(b.Row(r-r0), s.cfg.b.V.Data[r*s.cfg.R:])
		kernels.Scale(b.Row(r-r0), s.lb.V.Data[r])
	}
	tuner.AddProduct(w, b, s.rows, scale)
}
