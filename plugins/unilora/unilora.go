// Package unilora is Uni-LoRA (Li et al. 2025, arXiv 2506.00799) as a peftkit method:
// all numbers of LoRA's factors, in all layers, are taken from one short vector that is
// trained. Which number is taken where follows from a seed. Files are those of Hugging
// Face PEFT's UNILORA.
package unilora

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/numpyrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

func init() { peft.Register(Method) }

// Method is Uni-LoRA. The learning rate is higher than the 1e-4 of PEFT's method
// comparison, which is for 5000 steps.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "unilora", PeftType: "UNILORA", Group: peft.Reparametrisation,
		Doc:          "takes all of LoRA's numbers from one short trained vector",
		Reference:    "Li et al. 2025, arXiv 2506.00799",
		LearningRate: 5e-3,
		Options: tuner.Options("",
			peft.Option{Key: "r", Flag: "rank", Default: 4, Doc: "rank of the changes"},
			peft.Option{Key: "theta_d_length", Default: 256, Doc: "trained numbers"},
			peft.Option{Key: "proj_seed", Default: 42, Doc: "seed of which number is taken where"},
			peft.Option{Key: "unilora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input"},
			peft.Option{Key: "init_theta_d_bound", Default: 0.02, Doc: "numbers begin between this and its negative"},
			peft.Option{Key: "init_weights", Default: true, Doc: "begin uniform; false draws normal numbers of deviation 1"},
			peft.Option{Key: "save_indices", Default: false, Doc: "write which number is taken where into the file"},
			tuner.BiasOption("unilora"),
		),
	},
	NoExclude: true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Length  int     `json:"theta_d_length"`
	Seed    int64   `json:"proj_seed"`
	Dropout float64 `json:"unilora_dropout"`
	Bound   float64 `json:"init_theta_d_bound"`
	Init    bool    `json:"init_weights"`
	Indices bool    `json:"save_indices"`

	theta *nn.Param
	// factor is what each trained number is multiplied with: 1 / the root of how often it
	// is taken.
	factor *nn.Var
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 4, Length: 256, Seed: 42, Bound: 0.02, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	if cfg.Length < 1 || cfg.Length > 1<<28 {
		return nil, tuner.Invalid("theta_d_length is %d, expected 1 to %d", cfg.Length, 1<<28)
	}
	if cfg.Seed < 0 {
		return nil, tuner.Invalid("proj_seed is %d, expected 0 or more", cfg.Seed)
	}
	if !(cfg.Bound >= 0) || math.IsInf(cfg.Bound, 0) {
		return nil, tuner.Invalid("init_theta_d_bound is %g, expected 0 or more", cfg.Bound)
	}
	return cfg, tuner.CheckShare("unilora_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("Uni-LoRA rank %d of %d numbers", c.R, c.Length)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	c.theta = p.Shared("unilora_theta_d", true, c.Length)
	return &site{cfg: c, place: p, layer: l}, nil
}

// Finish implements tuner.Finisher: it deals the numbers out as PEFT does, each as often
// as any other, or once more.
func (c *config) Finish(a *tuner.Adapter) error {
	total := 0
	for _, x := range a.Sites {
		total += c.R * (x.(*site).place.In + x.(*site).place.Out)
	}
	rng := numpyrng.New(uint64(c.Seed))
	all := make([]int32, 0, total)
	for i := range c.Length {
		for range total / c.Length {
			all = append(all, int32(i))
		}
	}
	all = append(all, rng.Choice(c.Length, total%c.Length)...)
	rng.Shuffle(all)
	for _, x := range a.Sites {
		s := x.(*site)
		n := c.R * s.place.In
		s.a, all = all[:n], all[n:]
		n = c.R * s.place.Out
		s.b, all = all[:n], all[n:]
	}
	c.weigh(a)
	return nil
}

// weigh sets factor from how often each number is taken.
func (c *config) weigh(a *tuner.Adapter) {
	counts := make([]int, c.Length)
	for _, x := range a.Sites {
		for _, i := range slices.Concat(x.(*site).a, x.(*site).b) {
			counts[i]++
		}
	}
	c.factor = tuner.Constant(make([]float32, c.Length), 1, c.Length)
	for i, n := range counts {
		if n > 0 {
			c.factor.Data[i] = float32(1 / math.Sqrt(float64(n)))
		}
	}
}

// InitShared implements tuner.Initialiser.
func (c *config) InitShared(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x756e69))
	if c.Init {
		tuner.Uniform(c.theta.V.Data, c.Bound, rng.Float64)
	} else {
		tuner.Normal(c.theta.V.Data, 1, rng.NormFloat64)
	}
	return nil
}

// site is a layer whose factors are taken from the vector.
type site struct {
	cfg   *config
	place *tuner.Place
	layer *nn.LinearLayer
	a, b  []int32 // places in the vector of A, [r, in], and B, [out, r]

	merged tuner.Fixed
}

// Init implements tuner.Site.
func (s *site) Init(*rand.Rand) error { return nil }

// factors returns A and B.
func (s *site) factors(t *nn.Tape) (a, b *nn.Var) {
	theta := nn.Mul(t, nn.View(t, s.cfg.theta.V, 1, s.cfg.Length), s.cfg.factor)
	return nn.Gather(t, theta, s.a, s.cfg.R, s.place.In), nn.Gather(t, theta, s.b, s.place.Out, s.cfg.R)
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		a, b := s.factors(t)
		return nn.LowRank{X: nn.Dropout(t, x, float32(s.cfg.Dropout)), A: a, B: b, Scale: scale}
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	f := s.merged.Of(func(t *nn.Tape) []*nn.Var {
		a, b := s.factors(t)
		return []*nn.Var{a, b}
	})
	tuner.AddProduct(w, f[1].Mat().RowsOf(r0, r1), f[0].Mat(), scale)
}

// lists names what save_indices adds to a file for a site, as PEFT does.
func (s *site) lists() (names [4]string) {
	for i, n := range []string{"indices_A", "indices_B", "scales_A", "scales_B"} {
		names[i] = peft.Prefix + s.place.Path + ".unilora_" + n
	}
	return names
}

// Export implements tuner.Exporter.
func (c *config) Export(a *tuner.Adapter) []formats.OutTensor {
	if !c.Indices {
		return nil
	}
	var out []formats.OutTensor
	for _, x := range a.Sites {
		s := x.(*site)
		names := s.lists()
		for i, list := range [][]int32{s.a, s.b} {
			shape := []int{c.R, s.place.In}
			if i == 1 {
				shape = []int{s.place.Out, c.R}
			}
			out = append(out,
				tuner.OutIndices(names[i], tensor.I64, shape, list),
				formats.OutTensor{Name: names[i+2], Type: tensor.F32, Shape: shape, WriteTo: func(w io.Writer) error {
					v := make([]float32, len(list))
					for k, j := range list {
						v[k] = c.factor.Data[j]
					}
					return peft.WriteFloats(w, tensor.F32, v)
				}})
		}
	}
	return out
}

// Loading implements tuner.Loader: what the file says of indices and scales has to be
// what its seed gives, which is what peftkit computes with.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	if !c.Indices {
		return nil
	}
	for _, x := range a.Sites {
		s := x.(*site)
		names := s.lists()
		for i, list := range [][]int32{s.a, s.b} {
			indices, scales := set.Take(names[i]), set.Take(names[i+2])
			if indices == nil && scales == nil && set.Taken() == 0 {
				return nil // a file of something else, which is reported as that
			}
			if indices == nil || scales == nil {
				return fmt.Errorf("save_indices is true and %s or %s is missing: %w", names[i], names[i+2], peft.ErrTensors)
			}
			if indices.Type != tensor.I64 || indices.Elements() != int64(len(list)) || scales.Elements() != int64(len(list)) {
				return fmt.Errorf("%s is %s %v and %s %v, expected I64 and floats of %d elements: %w", names[i], indices.Type, indices.Shape, names[i+2], scales.Shape, len(list), peft.ErrTensors)
			}
			v, err := scales.AllFloats()
			if err != nil {
				return err
			}
			for k, want := range list {
				if got := binary.LittleEndian.Uint64(indices.Data[8*k:]); got != uint64(want) {
					return fmt.Errorf("%s: element %d is %d, proj_seed %d gives %d: peftkit computes what the seed gives: %w", names[i], k, got, c.Seed, want, peft.ErrTensors)
				}
				if f := c.factor.Data[want]; math.Abs(float64(v[k]-f)) > 1e-5*float64(f) {
					return fmt.Errorf("%s: element %d is %g, expected %g: %w", names[i+2], k, v[k], f, peft.ErrTensors)
				}
			}
		}
	}
	return nil
}
