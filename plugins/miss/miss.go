// Package miss is MiSS (Kang and Yin 2024, arXiv 2409.15371, there also called
// Bone) as a peftkit method: all blocks of a weight's columns share one matrix of
// changes. Files are those of Hugging Face PEFT's MISS.
package miss

import (
	"encoding/json"
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

// Method is MiSS, with the learning rate of PEFT's method comparison.
var Method peft.Method = method{&tuner.Method{
	Facts: peft.Info{
		Name: "miss", Aliases: []string{"bone"}, PeftType: "MISS", Formerly: []string{"BONE"}, Group: peft.Reparametrisation,
		Doc:          "one matrix of changes shared by all blocks of a weight",
		Reference:    "Kang and Yin 2024, arXiv 2409.15371",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 64, Doc: "size of the blocks"},
			peft.Option{Key: "miss_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the layer's input"},
			peft.Option{Key: "mini_r", Default: 1, Doc: "columns that init_weights mini repeats over the outputs"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true (zeros), false (random), bat (blocks times the weight's) or mini"},
			tuner.BiasOption("miss"),
		),
	},
	Configure: configure,
}}

type config struct {
	R       int             `json:"r"`
	Mini    int             `json:"mini_r"`
	Dropout float64         `json:"miss_dropout"`
	Init    json.RawMessage `json:"init_weights"`

	kind string // true, false, bat, mini
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 64, Mini: 1}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch cfg.kind = strings.Trim(strings.ToLower(string(cfg.Init)), `"`); cfg.kind {
	case "":
		cfg.kind = "true"
	case "true", "false", "bat", "mini":
	default:
		return nil, fmt.Errorf("init_weights is %s, expected true, false, bat or mini: %w", cfg.Init, peft.ErrConfig)
	}
	if cfg.R < 1 || cfg.Mini < 1 || cfg.Dropout < 0 || cfg.Dropout >= 1 {
		return nil, fmt.Errorf("r is %d, mini_r %d and miss_dropout %g, expected at least 1, 1 and 0 to below 1: %w", cfg.R, cfg.Mini, cfg.Dropout, peft.ErrConfig)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("MiSS rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	switch {
	case c.R > p.In:
		return nil, fmt.Errorf("r is %d, the layer has %d inputs: %w", c.R, p.In, peft.ErrConfig)
	case c.kind == "bat" && (p.In%c.R != 0 || p.Out%c.R != 0):
		return nil, fmt.Errorf("init_weights bat: [%d %d] has no whole blocks of %d: %w", p.Out, p.In, c.R, peft.ErrConfig)
	case c.kind == "bat":
		return &bat{p, l, p.Param("miss_block", p.Out/c.R, c.R, c.R)}, nil
	case c.kind == "mini" && p.Out%c.Mini != 0:
		return nil, fmt.Errorf("mini_r is %d, the layer has %d outputs: %w", c.Mini, p.Out, peft.ErrConfig)
	case c.kind == "mini":
		return &site{c, l, p.Out / c.Mini, p.Param("miss_block", c.R, c.Mini)}, nil
	}
	return &site{c, l, 1, p.Param("miss_block", c.R, p.Out)}, nil
}

// site adds B to every block of r columns of the weight's transpose.
type site struct {
	cfg    *config
	layer  *nn.LinearLayer
	repeat int
	b      *nn.Param // [r, out/repeat]
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if s.cfg.kind == "false" {
		tuner.Uniform(s.b.V.Data, 1/math.Sqrt(float64(s.b.V.Cols)), rng.Float64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	p := float32(s.cfg.Dropout)
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		if p > 0 && t.Train {
			x = nn.Dropout(t, x, p)
		}
		b := nn.Transpose(t, s.b.V)
		if s.repeat > 1 {
			b = nn.RepeatRows(t, b, s.repeat)
		}
		return nn.LowRank{X: fold(t, x, s.cfg.R), B: b, Scale: scale}
	})
	return nil
}

// fold sums the blocks of r columns of x: [rows, r]. A last block may be short.
func fold(t *nn.Tape, x *nn.Var, r int) *nn.Var {
	out := t.New(x.Rows, r)
	out.Needs = x.Needs
	xm, om := x.Mat(), out.Mat()
	kernels.Parallel(x.Rows, 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			src, dst := xm.Row(i), om.Row(i)
			copy(dst, src[:r])
			for at := r; at < len(src); at += r {
				n := min(r, len(src)-at)
				kernels.Add(dst[:n], dst[:n], src[at:at+n])
			}
		}
	})
	t.Record(out, func() {
		g, acc := t.Grad(x)
		d := kernels.MatOf(out.Grad, out.Rows, out.Cols)
		kernels.Parallel(x.Rows, 64, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				dst, src := g.Row(i), d.Row(i)
				for at := 0; at < len(dst); at += r {
					n := min(r, len(dst)-at)
					if acc {
						kernels.Add(dst[at:at+n], dst[at:at+n], src[:n])
					} else {
						copy(dst[at:at+n], src[:n])
					}
				}
			}
		})
	}, out)
	return out
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	cols := s.b.V.Cols
	for r := range w.Rows {
		row := w.Row(r)
		for i := range row {
			row[i] += scale * s.b.V.Data[i%s.cfg.R*cols+(r0+r)%cols]
		}
	}
}

// bat changes every [r, r] block of the weight by itself times B, plus B; each
// row of blocks has a B of its own.
type bat struct {
	place *tuner.Place
	layer *nn.LinearLayer
	b     *nn.Param // [out/r, r, r]
}

// Init implements tuner.Site: zeros.
func (s *bat) Init(*rand.Rand) error { return nil }

// delta returns the change of a weight, [out, in].
func (s *bat) delta(t *nn.Tape, w *nn.Var) *nn.Var {
	out, in, r := s.place.Out, s.place.In, s.b.Shape[1]
	mixed := nn.View(t, nn.BatchMatMul(t, nn.View(t, w, out*in/r, r), s.b.V, out/r, false, false), out, in)
	parts := make([]*nn.Var, in/r)
	for i := range parts {
		parts[i] = s.b.V
	}
	return nn.Add(t, mixed, nn.ConcatCols(t, parts...))
}

// Attach implements tuner.Site.
func (s *bat) Attach(scale float32) error {
	tuner.AddDense(s.layer, scale, func(t *nn.Tape) *nn.Var {
		w := s.place.Weight()
		return s.delta(t, &nn.Var{Rows: w.Rows, Cols: w.Cols, Data: w.Data})
	})
	return nil
}

// Merge implements tuner.Merging.
func (s *bat) Merge(w kernels.Mat, scale float32) {
	t := nn.NewTape()
	defer t.Close()
	d := s.delta(t, &nn.Var{Rows: w.Rows, Cols: w.Cols, Data: w.Data[:w.Rows*w.Cols]}).Mat()
	for r := range w.Rows {
		kernels.Axpy(scale, d.Row(r), w.Row(r))
	}
}
