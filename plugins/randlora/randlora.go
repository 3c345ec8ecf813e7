// Package randlora is RandLoRA (Albert et al. 2025, arXiv 2502.00987) as a peftkit
// method: an update of full rank as the sum of random low-rank products, which all
// modules share, weighted by trained vectors. Files are those of Hugging Face
// PEFT's RANDLORA type; where they do not hold the random matrices, they are drawn
// as PyTorch draws them.
//
// The update has full rank, so a step needs the dense gradient of each weight and two
// products of its size with the random matrices, and cannot be as fast as LoRA's.
package randlora

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is RandLoRA. Rank and alpha are the paper's and PEFT's, targets and
// learning rate those of PEFT's benchmark (query and value, 1e-4 for 5000 steps; a
// higher rate for shorter runs).
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "randlora", PeftType: "RANDLORA", Group: peft.Reparametrisation,
		Doc:          "adds a full-rank sum of shared random matrices, weighted by trained vectors",
		Reference:    "Albert et al. 2025, arXiv 2502.00987",
		LearningRate: 1e-3,
		Options: tuner.Options("",
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "rank of each product; smaller ones train more numbers"},
			peft.Option{Key: "randlora_alpha", Flag: "alpha", Default: 640.0, Doc: "scale times rank"},
			peft.Option{Key: "randlora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input"},
			peft.Option{Key: "projection_prng_key", Default: 0, Doc: "seed of the random matrices"},
			peft.Option{Key: "save_projection", Default: true, Doc: "keep the random matrices in the file; else they are drawn again"},
			peft.Option{Key: "sparse", Default: false, Doc: "random matrices of -1, 0 and 1, two thirds of them zero"},
			peft.Option{Key: "very_sparse", Default: false, Doc: "the same with far more zeros"},
			tuner.BiasOption("randlora"),
			peft.Option{Key: "init_weights", Default: true, Doc: "start from no change; false draws the weights"},
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R          int     `json:"r"`
	Alpha      float64 `json:"randlora_alpha"`
	Dropout    float64 `json:"randlora_dropout"`
	Key        uint64  `json:"projection_prng_key"`
	Save       bool    `json:"save_projection"`
	Sparse     bool    `json:"sparse"`
	VerySparse bool    `json:"very_sparse"`
	Init       bool    `json:"init_weights"`

	a, b  *nn.Param // [r, 1, smaller side], [larger side, bases, r]
	mu    sync.Mutex
	parts map[[3]int]*nn.Var
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Alpha: 640, Save: true, Init: true, parts: map[[3]int]*nn.Var{}}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	return cfg, tuner.CheckShare("randlora_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("RandLoRA rank %d", c.R) }

// bases is the number of products of rank r that make a matrix of full rank.
func (c *config) bases(n int) int { return (n + c.R - 1) / c.R }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	small := min(p.In, p.Out)
	return &site{
		cfg: c, layer: l, out: p.Out, in: p.In, n: c.bases(small), scale: float32(c.Alpha / float64(c.R)),
		lambda: p.Param("randlora_lambda", c.R, c.bases(small)), gamma: p.Param("randlora_gamma", c.bases(small), small),
	}, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(ad *tuner.Adapter) error {
	ad.SetFanInFanOut()
	in, out := 0, 0
	for _, p := range ad.Places {
		in, out = max(in, p.In), max(out, p.Out)
	}
	small, large := min(in, out), max(in, out)
	c.a = ad.Places[0].Shared("randlora_A", false, c.R, 1, small)
	c.b = ad.Places[0].Shared("randlora_B", false, large, c.bases(small), c.R)
	if !c.Save {
		ad.Drop(c.a)
		ad.Drop(c.b)
		c.draw()
	}
	return nil
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(uint64) error {
	c.draw()
	return nil
}

// Loading implements tuner.Loader. PEFT writes a copy of the shared matrices for
// each module beside them: all must be the same. Matrices that the configuration
// says are not in the file may only be there if they are the ones that it says to
// draw.
func (c *config) Loading(ad *tuner.Adapter, set *peft.TensorSet) error {
	for _, p := range []*nn.Param{c.a, c.b} {
		first := set.Peek(p.Name)
		for _, place := range ad.Places {
			t := set.Take(peft.Prefix + place.Path + "." + strings.TrimPrefix(p.Name, "base_model."))
			if t == nil {
				continue
			}
			if first == nil || !slices.Equal(t.Shape, first.Shape) || !bytes.Equal(t.Data, first.Data) {
				return fmt.Errorf("%s is not a copy of %s: %w", t.Name, p.Name, peft.ErrTensors)
			}
		}
		if c.Save || first == nil {
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

// draw fills the shared matrices as PEFT does: uniform numbers in bfloat16, or with
// sparse -1, 0 and 1 (Achlioptas 2003), divided by their deviation.
func (c *config) draw() {
	rng := torchrng.New(c.Key)
	a, b := c.a.V.Data, c.b.V.Data
	if c.Sparse || c.VerySparse {
		sparsity := 3.0
		if c.VerySparse {
			sparsity = math.Sqrt(float64(c.a.V.Cols))
		}
		for _, m := range [][]float32{a, b} {
			low, high := float32(1/(2*sparsity)), float32(1-1/(2*sparsity))
			for i := range m {
				switch v := rng.Float32(); {
				case v < low:
					m[i] = -1
				case v > high:
					m[i] = 1
				default:
					m[i] = 0
				}
			}
			s := float32(deviation(m))
			for i := range m {
				m[i] /= s
			}
		}
		return
	}
	// kaiming_uniform_ of PyTorch with a = sqrt(5) takes the second dimension times
	// what follows for the number of inputs.
	uniform16(rng, a, c.a.V.Cols)
	n, r := c.b.Shape[1], c.R
	part := make([]float32, c.b.Shape[0]*r)
	for k := range n {
		uniform16(rng, part, r)
		for i := range c.b.Shape[0] {
			copy(b[(i*n+k)*r:][:r], part[i*r:])
		}
	}
	for _, m := range [][]float32{a, b} {
		s := bf16(float32(deviation(m)))
		for i := range m {
			m[i] = bf16(m[i] / s)
		}
	}
}

func bf16(x float32) float32 { return kernels.BF16ToF32(kernels.F32ToBF16(x)) }

// uniform16 fills dst as tensor.uniform_ does in bfloat16: float32 numbers, rounded;
// one that reaches the upper bound becomes the lower one.
func uniform16(rng *torchrng.Generator, dst []float32, inputs int) {
	bound := math.Sqrt(3) * (math.Sqrt(2.0/6) / math.Sqrt(float64(inputs)))
	rng.Uniform(dst, -bound, bound)
	last := bf16(float32(bound))
	for i, v := range dst {
		if dst[i] = bf16(v); dst[i] >= last {
			dst[i] = -last
		}
	}
}

// deviation is the standard deviation with the divisor n-1.
func deviation(v []float32) float64 {
	mean := 0.0
	for _, x := range v {
		mean += float64(x)
	}
	mean /= float64(len(v))
	sum := 0.0
	for _, x := range v {
		sum += (float64(x) - mean) * (float64(x) - mean)
	}
	return math.Sqrt(sum / float64(len(v)-1))
}
