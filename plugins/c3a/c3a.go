// Package c3a is C³A (Chen et al. 2024, arXiv 2407.19342) as a peftkit method: the
// update of a weight is made of circulant blocks, each of which turns one trained
// vector on from row to row. Files are those of Hugging Face PEFT's C3A type.
//
// A step costs more than LoRA's: the gradient of a dense change is one more product
// with the size of the weight.
package c3a

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is C³A. Learning rate, weight decay, block size (64, or what divides all
// sizes) and targets are those of PEFT's benchmark.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "c3a", PeftType: "C3A", Group: peft.Reparametrisation,
		Doc:          "adds circulant blocks to the weights it targets",
		Reference:    "Chen et al. 2024, arXiv 2407.19342",
		LearningRate: 3e-1, WeightDecay: 1e-5,
		Options: tuner.Options("",
			peft.Option{Key: "block_size", Default: 0, Doc: "size of the blocks; 0 for the largest up to 64 that divides the sizes of all targets"},
			peft.Option{Key: "block_size_pattern", Doc: "block size of single modules: {pattern: size}"},
			peft.Option{Key: "init_weights", Default: "xavier_uniform", Doc: "xavier_uniform, kaiming_uniform or gaussian; true starts from no change"},
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.TargetTable(map[string][]string{"gpt2": {"mlp.c_proj"}}),
}

type config struct {
	Block int `json:"block_size"`

	init   string
	blocks tuner.Patterns
	common *peft.Config
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Block: 256, init: "xavier_uniform", common: c}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if v := c.Raw("init_weights"); v != nil {
		cfg.init = strings.Trim(string(v), `"`)
	}
	switch cfg.init {
	case "true", "gaussian", "xavier_uniform", "false", "kaiming_uniform":
	default:
		return nil, tuner.Invalid("init_weights is %.40s, expected true, false, gaussian, xavier_uniform or kaiming_uniform", cfg.init)
	}
	if cfg.Block < 0 {
		return nil, tuner.Invalid("block_size is %d, expected at least 0", cfg.Block)
	}
	var err error
	cfg.blocks, err = tuner.ReadPatterns(c, "block_size_pattern")
	return cfg, err
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("C3A with blocks of %d", c.Block) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if c.Block == 0 {
		if c.Block, err = p.Divisor(64); err != nil {
			return nil, err
		}
		c.common.Set("block_size", c.Block)
	}
	b, err := c.blocks.Count(p.Path, c.Block)
	if err != nil {
		return nil, err
	}
	if p.In%b != 0 || p.Out%b != 0 {
		return nil, tuner.Invalid("block_size is %d, which does not divide %s of [%d,%d]", b, p.Path, p.Out, p.In)
	}
	return &site{cfg: c, layer: l, out: p.Out, in: p.In, b: b, kernel: p.Param("c3a_kernel", p.Out/b, p.In/b, b)}, nil
}

// site adds blocks of which row m is the kernel turned on by m places, divided by
// the number of inputs.
type site struct {
	cfg        *config
	layer      *nn.LinearLayer
	out, in, b int
	kernel     *nn.Param // [out/b, in/b, b]
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	v := s.kernel.V.Data
	switch s.cfg.init {
	case "true":
	case "gaussian":
		tuner.Normal(v, 1, rng.NormFloat64)
	case "kaiming_uniform":
		tuner.Uniform(v, math.Sqrt(1/float64(s.in)), rng.Float64)
	default:
		tuner.Uniform(v, math.Sqrt(6/float64(s.in+s.out)), rng.Float64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	tuner.AddDense(s.layer, scale/float32(s.in), func(t *nn.Tape) *nn.Var {
		d := t.New(s.out, s.in)
		d.Needs = s.kernel.V.Needs
		fill := func(m kernels.Mat) { each(s.out, func(r int) { s.row(m.Row(r), r) }) }
		fill(d.Mat())
		t.Recomputable(d, fill, s.kernel.V)
		t.Record(d, func() { s.backward(t, kernels.MatOf(d.Grad, s.out, s.in)) })
		return d
	})
	return nil
}

func each(n int, f func(i int)) {
	kernels.Parallel(n, 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i)
		}
	})
}

// block returns the kernel of a block.
func (s *site) block(v []float32, p, q int) []float32 {
	i := (p*(s.in/s.b) + q) * s.b
	return v[i : i+s.b]
}

// row writes row r of the blocks.
func (s *site) row(dst []float32, r int) {
	p, m := r/s.b, r%s.b
	for q := range s.in / s.b {
		w, to := s.block(s.kernel.V.Data, p, q), dst[q*s.b:(q+1)*s.b]
		copy(to[m:], w)
		copy(to[:m], w[s.b-m:])
	}
}

// backward adds the gradient of the kernels: the sum of all rows, turned back.
func (s *site) backward(t *nn.Tape, dd kernels.Mat) {
	g, add := t.Grad(s.kernel.V)
	if !add {
		clear(g.Data)
	}
	kernels.Parallel(s.out/s.b, 1, func(lo, hi int) {
		for p := lo; p < hi; p++ {
			for m := range s.b {
				from := dd.Row(p*s.b + m)
				for q := range s.in / s.b {
					w, d := s.block(g.Data, p, q), from[q*s.b:(q+1)*s.b]
					kernels.Add(w[:s.b-m], w[:s.b-m], d[m:])
					kernels.Add(w[s.b-m:], w[s.b-m:], d[:m])
				}
			}
		}
	})
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	row := make([]float32, s.in)
	for r := r0; r < r1; r++ {
		s.row(row, r)
		for i, v := range row {
			w.Row(r - r0)[i] += scale * (v / float32(s.in))
		}
	}
}
