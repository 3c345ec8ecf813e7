// Package waveft is WaveFT (Bilican et al. 2025, arXiv 2505.12532) as a peftkit method:
// the update of a weight is the inverse wavelet transform of a few trained coefficients
// at random places. Files are those of Hugging Face PEFT's WAVEFT; the places are drawn
// as PyTorch draws them.
//
// PEFT takes more names of wavelets than it has filters for, and two of its filters,
// coif4 and coif5, are not those of wavelets: such names are refused unless
// use_idwt=false, which needs no filter.
package waveft

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is WaveFT with PEFT's defaults and targets, and the learning rate of
// PEFT's example.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "waveft", PeftType: "WAVEFT", Group: peft.Reparametrisation,
		Doc:          "adds the inverse wavelet transform of a few trained coefficients to the weights it targets",
		Reference:    "Bilican et al. 2025, arXiv 2505.12532",
		LearningRate: 3e-4,
		Options: tuner.Options("",
			peft.Option{Key: "n_frequency", Default: 2592, Doc: "number of trained coefficients of a module"},
			peft.Option{Key: "scaling", Flag: "alpha", Default: 25.0, Doc: "scale of the update"},
			peft.Option{Key: "wavelet_family", Default: "db1", Doc: "db1 (Haar) to db10, sym2 to sym10, coif1 to coif3"},
			peft.Option{Key: "use_idwt", Default: true, Doc: "transform the coefficients; false adds them to the weight as they are, which is faster"},
			peft.Option{Key: "random_loc_seed", Default: 777, Doc: "seed of the places of the coefficients"},
			peft.Option{Key: "n_frequency_pattern", Doc: "number of coefficients of single modules: {pattern: number}"},
			peft.Option{Key: "proportional_parameters", Default: false, Doc: "share all coefficients among the modules by the sizes of their weights"},
			tuner.BiasOption("waveft"),
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws small normal numbers"},
		),
	},
	Configure: configure,
	Targets:   tuner.TargetTable(map[string][]string{"gpt2": {"mlp.c_proj"}}),
}

type config struct {
	N            int     `json:"n_frequency"`
	Scaling      float64 `json:"scaling"`
	Wavelet      string  `json:"wavelet_family"`
	IDWT         bool    `json:"use_idwt"`
	Seed         uint64  `json:"random_loc_seed"`
	Proportional bool    `json:"proportional_parameters"`
	Init         bool    `json:"init_weights"`

	file   *peft.Config
	counts tuner.Patterns
	low    []float64 // the wavelet's filter; nil without a transform

	elements, modules int // of all targets, when they have been counted

	mu     sync.Mutex
	places map[[2]int][]int64 // by number of elements and of coefficients
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{N: 2592, Scaling: 25, Wavelet: "db1", IDWT: true, Seed: 777, Init: true, file: c, places: map[[2]int][]int64{}}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	var err error
	if cfg.IDWT {
		cfg.low, err = lowpass(cfg.Wavelet)
	} else {
		_, _, err = split(cfg.Wavelet)
	}
	if err != nil {
		return nil, err
	}
	cfg.counts, err = tuner.ReadPatterns(c, "n_frequency_pattern")
	return cfg, err
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	if !c.IDWT {
		return fmt.Sprintf("WaveFT with %d coefficients, not transformed", c.N)
	}
	return fmt.Sprintf("WaveFT with %d coefficients of %s", c.N, c.Wavelet)
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	a.SetFanInFanOut()
	return nil
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if _, err := p.Linear(); err != nil {
		return nil, err
	}
	n, err := c.number(p)
	if err != nil {
		return nil, err
	}
	return &site{cfg: c, place: p, spectrum: p.Param("waveft_spectrum", n)}, nil
}

// number returns how many coefficients a module has.
func (c *config) number(p *tuner.Place) (int, error) {
	v, err := c.counts.Value(p.Path, float64(c.N))
	if err == nil && c.Proportional { // PEFT looks at no pattern then
		v, err = c.share(p)
	}
	if err != nil {
		return 0, err
	}
	n := int(v)
	if float64(n) != v || n < 1 || n > p.In*p.Out {
		return 0, tuner.Invalid("n_frequency is %g for %s, expected 1 to its number of elements, %d", v, p.Path, p.In*p.Out)
	}
	return n, nil
}

// share returns a module's share of n_frequency times the number of modules.
func (c *config) share(p *tuner.Place) (float64, error) {
	if c.elements == 0 {
		for _, m := range p.Model.Modules {
			if hit, err := c.file.Hits(m); err != nil {
				return 0, err
			} else if hit && m.Linear != nil && !c.file.Saves(m.Path) {
				c.elements += m.Weight().In * m.Weight().Out
				c.modules++
			}
		}
	}
	return max(1, math.RoundToEven(float64(p.In*p.Out)/float64(c.elements)*float64(c.N*c.modules))), nil
}

// at returns row and column of the first n elements of a permutation of a matrix.
func (c *config) at(n, out, in int) (rows, cols []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]int{out * in, n}
	all := c.places[key]
	if all == nil {
		all = torchrng.New(c.Seed).RandpermFirst(int64(out*in), int64(n))
		c.places[key] = all
	}
	for _, i := range all {
		rows, cols = append(rows, int32(i/int64(in))), append(cols, int32(i%int64(in)))
	}
	return rows, cols
}

// site adds scaling times the transform of the coefficients, or the coefficients.
type site struct {
	cfg      *config
	place    *tuner.Place
	spectrum *nn.Param

	once sync.Once
	made adding
}

// adding adds something to a weight.
type adding interface {
	Attach(scale float32)
	MergeRows(w kernels.Mat, r0, r1 int, scale float32)
}

// adding returns what is added; the places are drawn when they are first wanted.
func (s *site) adding() adding {
	s.once.Do(func() {
		rows, cols := s.cfg.at(s.spectrum.V.Cols, s.place.Out, s.place.In)
		if s.cfg.low == nil {
			s.made = &tuner.Sparse{Place: s.place, V: s.spectrum, Rows: rows, Cols: cols}
		} else {
			s.made = newWave(s.place, s.spectrum, rows, cols, s.cfg.low)
		}
	})
	return s.made
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if s.cfg.Proportional && len(s.cfg.counts.List()) > 0 {
		return tuner.Invalid("n_frequency_pattern has no effect beside proportional_parameters: leave out one of them")
	}
	if !s.cfg.Init {
		tuner.Normal(s.spectrum.V.Data, 0.01, rng.NormFloat64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.adding().Attach(scale * float32(s.cfg.Scaling))
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.adding().MergeRows(w, r0, r1, scale*float32(s.cfg.Scaling))
}
