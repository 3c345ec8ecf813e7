// Package gralora is GraLoRA (Jung et al. 2025, arXiv 2505.20355) as a peftkit
// method: a weight is cut into a grid of blocks, each of which gets a low-rank
// update of its own; all together cost what LoRA of the same rank does. Files are
// those of Hugging Face PEFT's GRALORA.
package gralora

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

// Method is GraLoRA, with the rank, alpha and learning rate of PEFT's method
// comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "gralora", PeftType: "GRALORA", Group: peft.Reparametrisation,
		Doc:          "low-rank updates of the blocks of a grid over each weight",
		Reference:    "Jung et al. 2025, arXiv 2505.20355",
		LearningRate: 2e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "rank of a row of blocks, a multiple of gralora_k"},
			peft.Option{Key: "alpha", Flag: "alpha", Default: 64, Doc: "scale times the sum of r and hybrid_r"},
			peft.Option{Key: "gralora_k", Default: 2, Doc: "blocks per side of the grid; 4 is advised from rank 64"},
			peft.Option{Key: "hybrid_r", Default: 0, Doc: "rank of a plain LoRA beside the grid"},
			peft.Option{Key: "gralora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of the updates"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws all factors"},
			tuner.BiasOption("gralora"),
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Alpha   float64 `json:"alpha"`
	K       int     `json:"gralora_k"`
	Hybrid  int     `json:"hybrid_r"`
	Dropout float64 `json:"gralora_dropout"`
	Init    bool    `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Alpha: 64, K: 2, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if cfg.Hybrid < 0 || cfg.Hybrid > 1<<16 {
		return nil, tuner.Invalid("hybrid_r is %d, expected 0 to %d", cfg.Hybrid, 1<<16)
	}
	if cfg.K < 1 || cfg.R%cfg.K != 0 {
		return nil, tuner.Invalid("gralora_k is %d, expected a divisor of r, %d", cfg.K, cfg.R)
	}
	return cfg, tuner.CheckShare("gralora_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("GraLoRA rank %d, %d by %d blocks", c.R, c.K, c.K)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if p.In%c.K != 0 || p.Out%c.K != 0 {
		return nil, fmt.Errorf("its weight [%d %d] has no grid of %d by %d equal blocks: choose another gralora_k: %w", p.Out, p.In, c.K, c.K, peft.ErrConfig)
	}
	s := &site{
		cfg: c, layer: l, scale: float32(c.Alpha / float64(c.R+c.Hybrid)),
		a: p.Param("gralora_A", c.K, p.In/c.K, c.R), b: p.Param("gralora_B", c.K, c.R, p.Out/c.K),
	}
	if c.Hybrid > 0 {
		s.ga, s.gb = p.Param("gralora_A_general.weight", c.Hybrid, p.In), p.Param("gralora_B_general.weight", p.Out, c.Hybrid)
	}
	return s, nil
}

type site struct {
	cfg    *config
	layer  *nn.LinearLayer
	scale  float32
	a, b   *nn.Param // [k, in/k, r] and [k, r, out/k]
	ga, gb *nn.Param // of the plain LoRA, nil without
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	bound := func(n int) float64 { return 1 / math.Sqrt(float64(n)) }
	tuner.Uniform(s.a.V.Data, bound(s.a.Shape[1]), rng.Float64)
	if !s.cfg.Init {
		tuner.Uniform(s.b.V.Data, bound(s.cfg.R), rng.Float64)
	}
	if s.ga != nil {
		tuner.Uniform(s.ga.V.Data, bound(s.ga.V.Cols), rng.Float64)
		if !s.cfg.Init {
			tuner.Uniform(s.gb.V.Data, bound(s.cfg.Hybrid), rng.Float64)
		}
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	scale *= s.scale
	p := float32(s.cfg.Dropout)
	if s.ga != nil {
		s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
			return nn.LowRank{X: nn.Dropout(t, x, p), A: s.ga.V, B: s.gb.V, Scale: scale}
		})
	}
	mix := exchange(s.cfg.K, s.cfg.R)
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		y := next(t, x)
		in := nn.Dropout(t, x, p)
		z := blockwise(t, in, s.a.V, s.cfg.K)
		if in != x {
			t.Discard(in)
		}
		mixed := nn.Scale(t, nn.SelectCols(t, z, mix), scale)
		t.Discard(z)
		return nn.Add(t, y, blockwise(t, mixed, s.b.V, s.cfg.K))
	})
	return nil
}

// exchange returns where the blocks of outputs find their inputs: part j of each
// block of inputs goes to block j of outputs.
func exchange(k, r int) []int32 {
	part := r / k
	var out []int32
	for j := range k {
		for n := range k {
			for s := range part {
				out = append(out, int32(n*r+j*part+s))
			}
		}
	}
	return out
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	k, part := s.cfg.K, s.cfg.R/s.cfg.K
	in, out := s.a.Shape[1], s.b.Shape[2]
	a, b := s.a.V.Mat(), s.b.V.Mat()
	for j := range k {
		lo, hi := max(r0, j*out), min(r1, (j+1)*out)
		if lo >= hi {
			continue
		}
		for n := range k {
			up := columns(b.RowsOf(j*s.cfg.R+n*part, j*s.cfg.R+(n+1)*part), lo-j*out, hi-j*out)
			down := columns(a.RowsOf(n*in, (n+1)*in), j*part, (j+1)*part)
			addProduct(columns(w.RowsOf(lo-r0, hi-r0), n*in, (n+1)*in), kernels.Term{A: up, TransA: true, B: down, TransB: true}, scale*s.scale)
		}
	}
	if s.ga != nil {
		addProduct(w, kernels.Term{A: s.gb.V.Mat().RowsOf(r0, r1), B: s.ga.V.Mat()}, scale*s.scale)
	}
}

func addProduct(w kernels.Mat, t kernels.Term, scale float32) {
	if scale != 0 { // Gemm takes 0 for 1
		t.Scale = scale
		kernels.Gemm(w, true, t)
	}
}
