// Package boft is orthogonal fine-tuning by butterfly factors (Liu et al. 2023,
// arXiv 2311.06243) as a peftkit method: a layer's input is multiplied by a chain
// of block-diagonal rotations with permutations between them, its output scaled.
// Files are those of Hugging Face PEFT's BOFT.
package boft

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is BOFT. The learning rate is higher than the 1e-4 of PEFT's method
// comparison, which is for 5000 steps. PEFT itself computes more than one factor
// on CUDA alone.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "boft", PeftType: "BOFT", Group: peft.Reparametrisation,
		Doc:          "rotates a layer's inputs by butterfly factors and scales its outputs",
		Reference:    "Liu et al. 2023, arXiv 2311.06243",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "boft_block_size", Default: 4, Doc: "size of the blocks; divides a layer's inputs"},
			peft.Option{Key: "boft_block_num", Default: 0, Doc: "number of blocks instead, with boft_block_size 0"},
			peft.Option{Key: "boft_n_butterfly_factor", Default: 1, Doc: "factors; each one more doubles the size of what is mixed"},
			peft.Option{Key: "boft_dropout", Flag: "dropout", Default: 0.0, Doc: "share of the blocks of one factor that a step leaves out"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws normal numbers"},
			tuner.BiasOption("boft"),
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	Size    int     `json:"boft_block_size"`
	Blocks  int     `json:"boft_block_num"`
	Factors int     `json:"boft_n_butterfly_factor"`
	Dropout float64 `json:"boft_dropout"`
	Init    bool    `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Size: 4, Factors: 1, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if cfg.Size < 0 || cfg.Blocks < 0 || (cfg.Size == 0) == (cfg.Blocks == 0) {
		return nil, tuner.Invalid("boft_block_size is %d and boft_block_num %d, expected one of them to be 0 and the other positive", cfg.Size, cfg.Blocks)
	}
	if cfg.Factors < 1 || cfg.Factors > 30 {
		return nil, tuner.Invalid("boft_n_butterfly_factor is %d, expected 1 to 30", cfg.Factors)
	}
	return cfg, tuner.CheckShare("boft_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("BOFT with %d factors", c.Factors) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	given := max(c.Size, c.Blocks)
	if p.In%given != 0 {
		return nil, fmt.Errorf("its %d inputs are no multiple of %d: choose another boft_block_size or boft_block_num: %w", p.In, given, peft.ErrConfig)
	}
	s := &site{cfg: c, layer: l, size: c.Size, blocks: c.Blocks}
	if s.size == 0 {
		s.size = p.In / s.blocks
	} else {
		s.blocks = p.In / s.size
	}
	if s.size < 2 {
		return nil, fmt.Errorf("blocks of %d of its %d inputs cannot be rotated: %w", s.size, p.In, peft.ErrConfig)
	}
	if f := c.Factors - 1; f > 0 && (s.size%2 != 0 || s.blocks%(1<<f) != 0) {
		return nil, fmt.Errorf("%d factors over its %d inputs want blocks of an even size, not %d, and a multiple of %d blocks, not %d: %w", c.Factors, p.In, s.size, 1<<f, s.blocks, peft.ErrConfig)
	}
	for i := range c.Factors {
		s.perms = append(s.perms, butterfly(p.In, s.size, i))
	}
	s.r = p.Param("boft_R", c.Factors, s.blocks, s.size, s.size)
	s.s = p.Param("boft_s", p.Out, 1)
	return s, nil
}

// Loading implements tuner.Loader. Without its CUDA extension PEFT computes and saves
// one factor whatever the configuration says: such a file is one of one factor.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	for _, x := range a.Sites {
		t := set.Peek(x.(*site).r.Name)
		if t == nil || len(t.Shape) != 4 || t.Shape[0] != 1 {
			return nil // what does not fit is reported with the rest
		}
	}
	c.Factors = 1
	a.Cfg.Set("boft_n_butterfly_factor", 1)
	for _, x := range a.Sites {
		s := x.(*site)
		*s.r = *nn.NewParam(s.r.Name, 1, s.blocks, s.size, s.size)
		s.perms = s.perms[:1]
	}
	return nil
}

// permutation is an order of the inputs and its inverse; nil is none.
type permutation struct{ order, inverse []int32 }

// butterfly returns the order in which factor i sees n inputs: in groups of 2^i
// blocks, the half blocks at even places come before those at odd ones.
func butterfly(n, size, i int) *permutation {
	if i == 0 {
		return nil
	}
	p := &permutation{make([]int32, n), make([]int32, n)}
	half, parts := size/2, 2<<i
	group := half * parts
	for at := range n {
		part := at % group / half
		from := 2 * part
		if part >= parts/2 {
			from = 2*(part-parts/2) + 1
		}
		p.order[at] = int32(at - at%group + from*half + at%half)
		p.inverse[p.order[at]] = int32(at)
	}
	return p
}

type site struct {
	cfg          *config
	layer        *nn.LinearLayer
	size, blocks int
	perms        []*permutation
	r            *nn.Param // [factors, blocks, size, size]
	s            *nn.Param // [out, 1]

	merged tuner.Fixed // the factors
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if !s.cfg.Init {
		tuner.Normal(s.r.V.Data, 0.1, rng.NormFloat64)
	}
	for i := range s.s.V.Data {
		s.s.V.Data[i] = 1
		if !s.cfg.Init {
			s.s.V.Data[i] += float32(0.1 * rng.NormFloat64())
		}
	}
	return nil
}
