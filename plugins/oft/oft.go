// Package oft is orthogonal fine-tuning (Qiu et al. 2023, arXiv 2306.07280; as
// OFTv2 on the layer's input, Qiu et al. 2025, arXiv 2506.19847) as a peftkit
// method: blocks of a layer's input are rotated, x R, which is W Rᵀ. Files are
// those of Hugging Face PEFT's OFT.
package oft

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is OFT. The learning rate is higher than the 1e-4 of PEFT's method
// comparison, which is for 5000 steps.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "oft", PeftType: "OFT", Group: peft.Reparametrisation,
		Doc:          "rotates blocks of a layer's inputs",
		Reference:    "Qiu et al. 2023, arXiv 2306.07280; OFTv2, arXiv 2506.19847",
		LearningRate: 1e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "oft_block_size", Default: 32, Doc: "size of the blocks; the nearest divisor of a layer's inputs is taken"},
			peft.Option{Key: "r", Flag: "rank", Default: 0, Doc: "number of blocks instead, with oft_block_size 0"},
			peft.Option{Key: "block_share", Default: false, Doc: "all blocks of a layer share one rotation"},
			peft.Option{Key: "use_cayley_neumann", Default: true, Doc: "the first terms of the series instead of an exact inverse"},
			peft.Option{Key: "num_cayley_neumann_terms", Default: 5, Doc: "terms of the series, at least 2"},
			peft.Option{Key: "coft", Default: false, Doc: "keep the rotations within eps of none"},
			peft.Option{Key: "eps", Default: 6e-5, Doc: "bound of coft"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws normal numbers"},
			peft.Option{Key: "peft_version", Default: "0.21.2", Doc: "version of PEFT whose series is meant: 0.18 halved the last term's factor"},
			tuner.BiasOption("oft"),
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Block   int     `json:"oft_block_size"`
	Share   bool    `json:"block_share"`
	Neumann bool    `json:"use_cayley_neumann"`
	Terms   int     `json:"num_cayley_neumann_terms"`
	COFT    bool    `json:"coft"`
	Eps     float64 `json:"eps"`
	Init    bool    `json:"init_weights"`
	Version string  `json:"peft_version"`

	coefficients []float32 // of Q, Q², ...
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Neumann: true, Terms: 5, Eps: 6e-5, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch {
	case c.Raw("oft_block_size") == nil:
		return nil, tuner.Invalid("it has no oft_block_size: the adapter was made by PEFT before 0.14, whose OFT was another")
	case cfg.R < 0 || cfg.Block < 0 || (cfg.R == 0) == (cfg.Block == 0):
		return nil, tuner.Invalid("r is %d and oft_block_size %d, expected one of them to be 0 and the other positive", cfg.R, cfg.Block)
	case cfg.Neumann && (cfg.Terms < 2 || cfg.Terms > 64):
		return nil, tuner.Invalid("num_cayley_neumann_terms is %d, expected 2 to 64", cfg.Terms)
	case cfg.COFT && !(cfg.Eps > 0):
		return nil, tuner.Invalid("eps is %g, expected a positive number", cfg.Eps)
	}
	cfg.coefficients = series(cfg.Terms, before018(cfg.Version))
	return cfg, nil
}

// before018 reports whether a version of PEFT is older than 0.18, the first one
// that writes its version.
func before018(v string) bool {
	parts := strings.SplitN(v, ".", 3)
	if len(parts) < 2 {
		return true
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 != nil || err2 != nil || major == 0 && minor < 18
}

// series returns the coefficients of Q and its powers in the Neumann series of
// (I + Q)(I - Q)^-1 as PEFT cuts it off. Since 0.18 the last power counts once;
// three terms and four are the same there.
func series(terms int, old bool) []float32 {
	n := terms - 1
	if !old && terms == 3 {
		n = 3
	}
	c := make([]float32, n)
	for i := range c {
		c[i] = 2
	}
	if !old && n > 2 {
		c[n-1] = 1
	}
	return c
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	if c.R > 0 {
		return fmt.Sprintf("OFT with %d blocks", c.R)
	}
	return fmt.Sprintf("OFT with blocks of %d", c.Block)
}

// Site implements tuner.Tuner. Linear layers have their inputs rotated, embeddings
// their rows.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	s := &site{cfg: c, place: p}
	if c.Block > 0 {
		s.size = divisor(p.In, c.Block)
		s.blocks = p.In / s.size
	} else {
		s.blocks = divisor(p.In, c.R)
		s.size = p.In / s.blocks
	}
	if s.size < 2 {
		return nil, fmt.Errorf("blocks of its %d inputs have %d elements and cannot be rotated: %w", p.In, s.size, peft.ErrConfig)
	}
	name, rows := "oft_R.weight", s.blocks
	switch {
	case p.Mod.Embedding != nil:
		name = "oft_embedding_R.weight"
	case p.Mod.Linear == nil:
		_, err := p.Linear()
		return nil, err
	}
	if c.Share {
		rows = 1
	}
	s.r = p.Param(name, rows, s.size*(s.size-1)/2)
	return s, nil
}

// divisor returns the divisor of n that is nearest to want, the smaller one of two.
func divisor(n, want int) int {
	if want >= n {
		return n
	}
	lower, higher := want, want
	for n%lower != 0 {
		lower--
	}
	for n%higher != 0 {
		higher++
	}
	if want-lower <= higher-want {
		return lower
	}
	return higher
}

type site struct {
	cfg          *config
	place        *tuner.Place
	size, blocks int
	r            *nn.Param // [blocks or 1, size(size-1)/2]

	merged tuner.Fixed
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if !s.cfg.Init {
		tuner.Normal(s.r.V.Data, 0.1, rng.NormFloat64)
	}
	return nil
}
