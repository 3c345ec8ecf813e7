// Package fourierft is FourierFT (Gao et al. 2024, arXiv 2405.03003) as a peftkit
// method: the update of a weight is the inverse Fourier transform of a few trained
// coefficients at random places. Files are those of Hugging Face PEFT's FOURIERFT
// type; the places are drawn as PyTorch draws them.
//
// A step costs more than LoRA's: the gradient of a dense change is one more product
// with the size of the weight, and the change is transformed anew in every step.
package fourierft

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is FourierFT. Number of coefficients, scale and targets are the paper's
// and PEFT's. The coefficients start from zero, not from normal numbers, which on
// small models are no small change; the learning rate lies between the paper's
// for instruction tuning (3e-3) and for GLUE (5e-2).
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "fourierft", PeftType: "FOURIERFT", Group: peft.Reparametrisation,
		Doc:          "adds the Fourier transform of a few trained coefficients to the weights it targets",
		Reference:    "Gao et al. 2024, arXiv 2405.03003",
		LearningRate: 1e-2,
		Options: tuner.Options("",
			peft.Option{Key: "n_frequency", Default: 1000, Doc: "number of trained coefficients of a module"},
			peft.Option{Key: "scaling", Flag: "alpha", Default: 150.0, Doc: "scale of the update; 300 for instruction tuning of large models"},
			peft.Option{Key: "random_loc_seed", Default: 777, Doc: "seed of the places of the coefficients"},
			peft.Option{Key: "n_frequency_pattern", Doc: "number of coefficients of single modules: {pattern: number}"},
			tuner.BiasOption("fourier"),
			peft.Option{Key: "init_weights", Default: true, Doc: "start from zero; false draws normal numbers"},
		),
	},
	Configure: configure,
	Targets:   tuner.TargetTable(map[string][]string{"gpt2": {"mlp.c_proj"}}),
}

type config struct {
	N       int     `json:"n_frequency"`
	Scaling float64 `json:"scaling"`
	Seed    uint64  `json:"random_loc_seed"`
	Init    bool    `json:"init_weights"`

	counts tuner.Patterns
	mu     sync.Mutex
	places map[int][]int64    // by number of elements
	plans  map[[3]int]*planes // by shape and number
	mem    memory
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{N: 1000, Scaling: 150, Seed: 777, places: map[int][]int64{}, plans: map[[3]int]*planes{}}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	var err error
	cfg.counts, err = tuner.ReadPatterns(c, "n_frequency_pattern")
	return cfg, err
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("FourierFT with %d frequencies", c.N) }

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	v, err := c.counts.Value(p.Path, float64(c.N))
	if err != nil {
		return nil, err
	}
	n := int(v)
	if float64(n) != v || n < 1 || n > p.In*p.Out {
		return nil, tuner.Invalid("n_frequency is %g for %s, expected 1 to its number of elements, %d", v, p.Path, p.In*p.Out)
	}
	return &site{cfg: c, layer: l, out: p.Out, in: p.In, spectrum: p.Param("fourierft_spectrum", n)}, nil
}

// at returns row and column of the first n coefficients of a matrix.
func (c *config) at(n, out, in int) (rows, cols []int) {
	all := c.places[out*in]
	if all == nil {
		all = torchrng.New(c.Seed).Randperm(int64(out * in))
		c.places[out*in] = all
	}
	for _, i := range all[:n] {
		rows, cols = append(rows, int(i)/in), append(cols, int(i)%in)
	}
	return rows, cols
}

// plan returns how n coefficients of a matrix are transformed.
func (c *config) plan(n, out, in int) *planes {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [3]int{n, out, in}
	p := c.plans[key]
	if p == nil {
		rows, cols := c.at(n, out, in)
		p = newPlanes(out, in, rows, cols, &c.mem)
		c.plans[key] = p
	}
	return p
}

// site adds scaling * the real part of ifft2 of the coefficients.
type site struct {
	cfg      *config
	layer    *nn.LinearLayer
	out, in  int
	spectrum *nn.Param

	once sync.Once
	m    kernels.Mat
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if !s.cfg.Init {
		tuner.Normal(s.spectrum.V.Data, 1, rng.NormFloat64)
	}
	return nil
}

// scale includes the divisor of the inverse transform.
func (s *site) scale() float32 { return float32(s.cfg.Scaling / float64(s.out*s.in)) }

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	plan := s.cfg.plan(s.spectrum.V.Cols, s.out, s.in)
	tuner.AddDense(s.layer, scale*s.scale(), func(t *nn.Tape) *nn.Var {
		return transform(t, s.spectrum.V, plan)
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.once.Do(func() {
		s.m = kernels.NewMat(s.out, s.in)
		s.cfg.plan(s.spectrum.V.Cols, s.out, s.in).forward(s.m, s.spectrum.V.Data)
	})
	for r := r0; r < r1; r++ {
		kernels.Axpy(scale*s.scale(), s.m.Row(r), w.Row(r-r0))
	}
}
