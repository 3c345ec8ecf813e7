// Package hra is Householder reflection adaptation (Yuan et al. 2024, arXiv
// 2405.17484) as a peftkit method: the weight is multiplied by a chain of r
// reflections, W H, H = (I - 2 u1 u1ᵀ) ... (I - 2 ur urᵀ). Files are those of
// Hugging Face PEFT's HRA.
//
// The chain is never formed: with the unit vectors as columns of U it is
// I - U T Uᵀ for a small upper triangular T (Schreiber and Van Loan 1989), so it
// costs what a low-rank update does.
package hra

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

// Method is HRA, with the learning rate of PEFT's method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "hra", PeftType: "HRA", Group: peft.Reparametrisation,
		Doc:          "multiplies weights by a chain of learned reflections",
		Reference:    "Yuan et al. 2024, arXiv 2405.17484",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 8, Doc: "number of reflections, even for a start without effect"},
			peft.Option{Key: "apply_GS", Default: false, Doc: "make the vectors orthogonal (Gram and Schmidt)"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start with pairs of equal reflections, which cancel; false draws all"},
			tuner.BiasOption("hra"),
		),
	},
	Configure: configure,
}

type config struct {
	R    int  `json:"r"`
	GS   bool `json:"apply_GS"`
	Init bool `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 8, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	return cfg, tuner.CheckRank("r", cfg.R)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("HRA with %d reflections", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	return &site{cfg: c, layer: l, u: p.Param("hra_u", p.In, c.R)}, nil
}

type site struct {
	cfg   *config
	layer *nn.LinearLayer
	u     *nn.Param // [in, r]

	merged tuner.Fixed // the reflections
}

// Init implements tuner.Site: uniform as torch's kaiming_uniform_ with a = sqrt 5
// on [in, r/2], each vector twice.
func (s *site) Init(rng *rand.Rand) error {
	v := s.u.V
	if !s.cfg.Init || s.cfg.R%2 != 0 {
		tuner.Uniform(v.Data, 1/math.Sqrt(float64(v.Cols)), rng.Float64)
		return nil
	}
	half := make([]float32, v.Rows*v.Cols/2)
	tuner.Uniform(half, 1/math.Sqrt(float64(v.Cols)/2), rng.Float64)
	for i, x := range half {
		v.Data[2*i], v.Data[2*i+1] = x, x
	}
	return nil
}

// reflections returns Uᵀ, [r, in], and U T, [in, r], so that the chain is
// I - (U T) Uᵀ.
func (s *site) reflections(t *nn.Tape) (ut, uT *nn.Var) {
	if s.cfg.GS {
		ut = gramSchmidt(t, nn.Transpose(t, s.u.V))
		return ut, nn.Scale(t, nn.Transpose(t, ut), 2)
	}
	r := s.cfg.R
	ut = unit(t, nn.Transpose(t, s.u.V))
	// T is the inverse of half the identity and the upper triangle of Uᵀ U.
	mask, half := constant(r), constant(r)
	for i := range r {
		half.Data[i*r+i] = 0.5
		for j := i + 1; j < r; j++ {
			mask.Data[i*r+j] = 1
		}
	}
	inv := nn.Add(t, half, nn.Mul(t, nn.MatMulT(t, ut, ut), mask))
	return ut, nn.MatMul(t, nn.Transpose(t, ut), nn.Inverse(t, inv, 1))
}

func constant(n int) *nn.Var { return &nn.Var{Rows: n, Cols: n, Data: make([]float32, n*n)} }

// unit divides each row by its length.
func unit(t *nn.Tape, x *nn.Var) *nn.Var {
	one := &nn.Var{Rows: x.Rows, Cols: 1, Data: make([]float32, x.Rows)}
	for i := range one.Data {
		one.Data[i] = 1
	}
	return nn.MulCol(t, x, nn.Div(t, one, nn.RowNorm(t, x, 1e-30)))
}

// gramSchmidt makes the rows orthonormal in their order.
func gramSchmidt(t *nn.Tape, x *nn.Var) *nn.Var {
	var done *nn.Var
	for i := range x.Rows {
		row := nn.GatherRows(t, x, []int32{int32(i)})
		for j := range i {
			q := nn.GatherRows(t, done, []int32{int32(j)})
			row = nn.Minus(t, row, nn.ScaleBy(t, q, nn.MatMulT(t, row, q)))
		}
		row = unit(t, row)
		if done == nil {
			done = row
		} else {
			done = nn.Concat(t, done, row)
		}
	}
	return done
}

// Attach implements tuner.Site. The layer sees x Hᵀ = x - (x U T... )ᵀ of the
// chain's transpose.
func (s *site) Attach(scale float32) error {
	if scale != 1 {
		return fmt.Errorf("a scale of %g cannot apply to reflections: %w", scale, peft.ErrConfig)
	}
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		ut, uT := s.reflections(t)
		// x Hᵀ = x - x U (U T)ᵀ
		return next(t, nn.Add(t, x, nn.LinearOp(t, x, nil, nil, nn.LowRank{A: ut, B: uT, Scale: -1})))
	})
	return nil
}

// MergeRows implements tuner.RowMerging: W H = W - (W U T) Uᵀ.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, _ float32) {
	f := s.merged.Of(func(t *nn.Tape) []*nn.Var {
		ut, uT := s.reflections(t)
		return []*nn.Var{ut, uT}
	})
	z := kernels.NewMat(w.Rows, s.cfg.R)
	kernels.Gemm(z, false, kernels.Term{A: w, B: f[1].Mat()})
	kernels.Gemm(w, true, kernels.Term{A: z, B: f[0].Mat(), Scale: -1})
}
