// Package hira is HiRA (Huang et al. 2025, ICLR; openreview TwJrTz9cRS) as a
// peftkit method: a weight is multiplied, element by element, by one plus a product
// of low rank, so that its change has high rank. Files are those of Hugging Face
// PEFT's HIRA. On embeddings with a scale (Gemma) the change has the scale, as it has
// once it is merged; PEFT's forward pass leaves it out there.
//
// The weight stays in the type it is stored in: its elements are multiplied as they
// are decoded, in training on many rows as they are packed. The gradient needs the
// dense gradient of the weight, which is made and used in bands: half as much work
// again as the frozen layer, so HiRA cannot train as fast as LoRA.
package hira

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is HiRA, with the rank and learning rate of PEFT's method comparison.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "hira", PeftType: "HIRA", Group: peft.Reparametrisation,
		Doc:          "multiplies the elements of weights by a product of low rank",
		Reference:    "Huang et al. 2025, ICLR, openreview TwJrTz9cRS",
		LearningRate: 4.5e-3,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "rank of the product"},
			peft.Option{Key: "hira_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of the change; it costs a second product"},
			peft.Option{Key: "init_weights", Default: true, Doc: "true (A uniform, B zero), gaussian (A normal) or false (both random)"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int             `json:"r"`
	Dropout float64         `json:"hira_dropout"`
	Init    json.RawMessage `json:"init_weights"`

	kind string // true, false or gaussian
	// patterns says that the file has a rank_pattern, which PEFT 0.21 writes and
	// does not follow: the tensors tell the ranks.
	patterns bool
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch cfg.kind = strings.Trim(strings.ToLower(string(cfg.Init)), `"`); cfg.kind {
	case "", "null":
		cfg.kind = "true"
	case "true", "false", "gaussian":
	default:
		return nil, tuner.Invalid("init_weights is %.40s, expected true, false or gaussian", cfg.Init)
	}
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	ranks, err := tuner.ReadPatterns(c, "rank_pattern")
	if err != nil {
		return nil, err
	}
	cfg.patterns = len(ranks.List()) > 0
	return cfg, tuner.CheckShare("hira_dropout", cfg.Dropout)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("HiRA rank %d", c.R) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	r := c.R
	if e := p.Mod.Embedding; e != nil {
		return &embedding{cfg: c, layer: e, a: p.Param("hira_embedding_A", r, p.Out), b: p.Param("hira_embedding_B", p.In, r)}, nil
	}
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	return &site{cfg: c, layer: l, a: p.Param("hira_A", r, p.In), b: p.Param("hira_B", p.Out, r)}, nil
}

// Loading implements tuner.Loader.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	if !c.patterns {
		return nil
	}
	for _, x := range a.Sites {
		var left, right *nn.Param
		switch s := x.(type) {
		case *site:
			left, right = s.a, s.b
		case *embedding:
			left, right = s.a, s.b
		}
		t := set.Peek(left.Name)
		if t == nil || len(t.Shape) != 2 || t.Shape[0] == left.Shape[0] {
			continue // what is missing or does not fit is reported with the rest
		}
		if err := tuner.CheckRank("rank_pattern", t.Shape[0]); err != nil {
			return err
		}
		*left = *nn.NewParam(left.Name, t.Shape[0], left.Shape[1])
		*right = *nn.NewParam(right.Name, right.Shape[0], t.Shape[0])
	}
	return nil
}

type site struct {
	cfg   *config
	layer *nn.LinearLayer
	a, b  *nn.Param // [r, in] and [out, r]
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	switch s.cfg.kind {
	case "true":
		tuner.Uniform(s.a.V.Data, 1/math.Sqrt(float64(s.a.V.Cols)), rng.Float64)
	case "gaussian":
		tuner.Normal(s.a.V.Data, 1/float64(s.a.V.Rows), rng.NormFloat64)
	default:
		tuner.Normal(s.a.V.Data, 1, rng.NormFloat64)
		tuner.Normal(s.b.V.Data, 1, rng.NormFloat64)
	}
	return nil
}

// embedding is HiRA on the rows of tokens.
type embedding struct {
	cfg   *config
	layer *nn.EmbeddingLayer
	a, b  *nn.Param // [r, vocabulary] and [features, r]
}

// Init implements tuner.Site.
func (s *embedding) Init(rng *rand.Rand) error {
	if s.cfg.kind == "false" {
		tuner.Normal(s.a.V.Data, 1, rng.NormFloat64)
	}
	tuner.Normal(s.b.V.Data, 1, rng.NormFloat64)
	return nil
}
