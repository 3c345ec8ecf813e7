// Package loha is LoHa as a peftkit method: the update of a weight is the
// element-wise product of two low-rank matrices (FedPara, Hyeon-Woo et al. 2022,
// arXiv 2108.06098; LyCORIS, Yeh et al. 2024, arXiv 2309.14859). Files are those of
// Hugging Face PEFT's LOHA type.
package loha

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

// Method is LoHa. Rank 8 gives as many parameters as LoRA of rank 16, and alpha is
// twice the rank as in the benchmark of Hugging Face PEFT (rank 32, alpha 64). The
// learning rate is higher than the benchmark's 1e-4, which is for 5000 steps.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "loha", PeftType: "LOHA", Group: peft.Reparametrisation,
		Doc:          "adds the element-wise product of two low-rank matrices to the weights it targets",
		Reference:    "FedPara, Hyeon-Woo et al. 2022, arXiv 2108.06098; LyCORIS, arXiv 2309.14859",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 8, Doc: "rank of each of the two matrices; the update has up to its square"},
			peft.Option{Key: "alpha", Flag: "alpha", Default: 16.0, Doc: "scale times rank"},
			peft.Option{Key: "rank_dropout", Default: 0.0, Doc: "share of the update's rows that a step leaves out"},
			peft.Option{Key: "module_dropout", Default: 0.0, Doc: "share of the modules whose update a step leaves out"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start from no change; false draws all factors"},
			peft.Option{Key: "rank_pattern", Doc: "rank of single modules: {pattern: rank}"},
			peft.Option{Key: "alpha_pattern", Doc: "alpha of single modules: {pattern: alpha}"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	tuner.Lycoris
	Init bool `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Lycoris: tuner.Lycoris{R: 8, Alpha: 8}, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	return cfg, cfg.Read(c)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("LoHa rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	r, scale, err := c.At(p.Path)
	if err != nil {
		return nil, err
	}
	return &site{
		cfg: c, layer: l, r: r, scale: scale,
		a1: p.Param("hada_w1_a", p.Out, r), b1: p.Param("hada_w1_b", r, p.In),
		a2: p.Param("hada_w2_a", p.Out, r), b2: p.Param("hada_w2_b", r, p.In),
	}, nil
}

// site adds scale * (a1·b1) * (a2·b2).
type site struct {
	cfg            *config
	layer          *nn.LinearLayer
	r              int
	scale          float32
	a1, b1, a2, b2 *nn.Param
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	for _, p := range []*nn.Param{s.a1, s.b1, s.a2, s.b2} {
		if p != s.b2 || !s.cfg.Init {
			tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64)
		}
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	out, in := s.a1.V.Rows, s.b1.V.Cols
	// The update has rank r*r: as a product of two factors it is cheaper than as a
	// matrix while r is small.
	factored := s.r*s.r*(in+out) < in*out
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		if skip := tuner.DropMask(t, 1, s.cfg.ModuleDropout, false); skip != nil && skip.Data[0] == 0 {
			return nn.LowRank{}
		}
		l := nn.LowRank{Scale: scale * s.scale}
		if factored {
			first, second := pairs(s.r)
			l.A = nn.Mul(t, nn.GatherRows(t, s.b1.V, first), nn.GatherRows(t, s.b2.V, second))
			l.B = nn.Mul(t, nn.SelectCols(t, s.a1.V, first), nn.SelectCols(t, s.a2.V, second))
		} else {
			l.B = nn.Mul(t, nn.MatMul(t, s.a1.V, s.b1.V), nn.MatMul(t, s.a2.V, s.b2.V))
		}
		if rows := tuner.DropMask(t, out, s.cfg.RankDropout, true); rows != nil {
			l.B = nn.MulCol(t, l.B, rows)
		}
		return l
	})
	return nil
}

// pairs lists all pairs of numbers below r: column (i,j) of the product's factors
// is the product of columns i and j of the two matrices' factors.
func pairs(r int) (first, second []int32) {
	for i := range r {
		for j := range r {
			first, second = append(first, int32(i)), append(second, int32(j))
		}
	}
	return first, second
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	one, two := kernels.NewMat(w.Rows, w.Cols), kernels.NewMat(w.Rows, w.Cols)
	kernels.Gemm(one, false, kernels.Term{A: s.a1.V.Mat().RowsOf(r0, r1), B: s.b1.V.Mat()})
	kernels.Gemm(two, false, kernels.Term{A: s.a2.V.Mat().RowsOf(r0, r1), B: s.b2.V.Mat()})
	for r := range w.Rows {
		row := w.Row(r)
		for i := range row {
			row[i] += scale * s.scale * (one.Row(r)[i] * two.Row(r)[i])
		}
	}
}
