// Package road is RoAd (Liao and Monz 2024, arXiv 2409.00119) as a peftkit
// method: pairs of output features are rotated and scaled. Files are those of
// Hugging Face PEFT's ROAD.
package road

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is RoAd, with the learning rate of the paper's fine-tuning of language
// models.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "road", PeftType: "ROAD", Group: peft.Reparametrisation,
		Doc:          "rotates and scales pairs of outputs",
		Reference:    "Liao and Monz 2024, arXiv 2409.00119",
		LearningRate: 3e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "variant", Default: "road_1", Doc: "numbers per pair: road_1 (2), road_2 (4) or road_4 (8)"},
			peft.Option{Key: "group_size", Default: 64, Doc: "features whose halves are paired; divides the outputs"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws normal numbers"},
		),
	},
	NoExclude: true, NoLayers: true,
	Configure: configure,
}

type config struct {
	Variant string `json:"variant"`
	Group   int    `json:"group_size"`
	Init    bool   `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Variant: "road_1", Group: 64, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if cfg.Group < 2 || cfg.Group%2 != 0 {
		return nil, fmt.Errorf("group_size is %d, expected an even number: %w", cfg.Group, peft.ErrConfig)
	}
	switch cfg.Variant {
	case "road_1", "road_2", "road_4":
		return cfg, nil
	}
	return nil, fmt.Errorf("variant is %q, expected road_1, road_2 or road_4: %w", cfg.Variant, peft.ErrConfig)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return "RoAd " + c.Variant }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if p.Out%c.Group != 0 {
		return nil, fmt.Errorf("its %d outputs are no multiple of group_size %d; choose another: %w", p.Out, c.Group, peft.ErrConfig)
	}
	size := map[string]int{"road_1": p.Out / 2, "road_2": p.Out, "road_4": 2 * p.Out}[c.Variant]
	return &site{cfg: c, layer: l, out: p.Out, theta: p.Param("road_theta", size), alpha: p.Param("road_alpha", size)}, nil
}

type site struct {
	cfg          *config
	layer        *nn.LinearLayer
	out          int
	theta, alpha *nn.Param
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	for i := range s.alpha.V.Data {
		s.alpha.V.Data[i] = 1
		if !s.cfg.Init {
			s.alpha.V.Data[i] += float32(0.5 * rng.NormFloat64())
			s.theta.V.Data[i] = float32(0.5 * rng.NormFloat64())
		}
	}
	return nil
}

// partner returns the feature that feature i is paired with.
func (s *site) partner(i int) int {
	h := s.cfg.Group / 2
	if i%s.cfg.Group < h {
		return i + h
	}
	return i - h
}

// columns returns the factors of a feature itself and of its partner, each
// [1, out]; the sign of the rotation is in the second.
func (s *site) columns(t *nn.Tape) (own, other *nn.Var) {
	h := s.cfg.Group / 2
	first, second := make([]int32, s.out), make([]int32, s.out)
	sign := &nn.Var{Rows: 1, Cols: s.out, Data: make([]float32, s.out)}
	for i := range s.out {
		g, k := i/s.cfg.Group, i%s.cfg.Group
		switch s.cfg.Variant {
		case "road_1":
			first[i] = int32(g*h + k%h)
			second[i] = first[i]
		case "road_2":
			first[i], second[i] = int32(i), int32(i)
		default:
			first[i] = int32(2*g*s.cfg.Group + k)
			second[i] = first[i] + int32(s.cfg.Group)
		}
		if sign.Data[i] = 1; k < h {
			sign.Data[i] = -1
		}
	}
	part := func(f func(*nn.Tape, *nn.Var) *nn.Var, index []int32) *nn.Var {
		return nn.Gather(t, nn.Mul(t, s.alpha.V, f(t, s.theta.V)), index, 1, s.out)
	}
	return part(nn.Cos, first), nn.Mul(t, part(nn.Sin, second), sign)
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	if scale != 1 {
		return fmt.Errorf("a scale of %g cannot apply to rotations: %w", scale, peft.ErrConfig)
	}
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		y := next(t, x)
		own, other := s.columns(t)
		out := nn.MixPairs(t, y, own, other, s.cfg.Group/2)
		t.Discard(y)
		return out
	})
	return nil
}

// Merge implements tuner.Merging.
func (s *site) Merge(w kernels.Mat, _ float32) {
	t := nn.NewTape()
	defer t.Close()
	own, other := s.columns(t)
	for i := range s.out {
		j := s.partner(i)
		if j < i {
			continue
		}
		a, b := w.Row(i), w.Row(j)
		for k := range a {
			x, y := a[k], b[k]
			a[k] = own.Data[i]*x + other.Data[i]*y
			b[k] = own.Data[j]*y + other.Data[j]*x
		}
	}
}

// MergeBias implements tuner.BiasMerging: a rotated output includes the bias.
func (s *site) MergeBias(b []float32, scale float32) { s.Merge(kernels.MatOf(b, len(b), 1), scale) }

// NeedsBias implements tuner.BiasMerging.
func (s *site) NeedsBias() bool { return false }
