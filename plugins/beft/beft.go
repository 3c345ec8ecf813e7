// Package beft is BEFT (Huang et al. 2026, arXiv 2509.15974) as a peftkit method:
// the bias of the value projections is trained, where a model has none too. Files
// are those of Hugging Face PEFT's BEFT.
package beft

import (
	"math/rand/v2"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is BEFT, with the learning rate that the authors' scripts have for most
// tasks of language models.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "beft", PeftType: "BEFT", Group: peft.Reparametrisation,
		Doc:          "adds a learned bias to the values; merges where the model has one",
		Reference:    "Huang et al. 2026, arXiv 2509.15974",
		LearningRate: 1e-3,
		Options: tuner.Options("",
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws normal numbers"},
		),
	},
	Configure: configure,
	Targets:   values,
	NoExclude: true, NoLayers: true,
}

// projections are the value projections of model types; others have v_proj. Types
// marked with a star are not in PEFT's table, nor is v_proj for all the rest.
var projections = map[string]string{
	"bert": "value", "roberta": "value", "xlm-roberta": "value", // the last *
	"t5": "v", "mt5": "v",
	"distilbert": "v_lin",    // *
	"gpt2":       "c_attn",   // * queries and keys too
	"phi3":       "qkv_proj", // * queries and keys too
}

func values(c *peft.Config, m *model.Model) error {
	name := projections[m.Type()]
	if name == "" {
		name = "v_proj"
	}
	c.SetTargets(peft.Targets{List: []string{name}})
	return nil
}

type config struct {
	Init bool `json:"init_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Init: true}
	return cfg, c.Decode(cfg)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	return &site{l, p.Param("beft_bias", 1, p.Out), c.Init}, nil
}

// site adds a bias to the output of a layer.
type site struct {
	layer *nn.LinearLayer
	bias  *nn.Param
	zero  bool
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	if !s.zero {
		tuner.Normal(s.bias.V.Data, 1, rng.NormFloat64)
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		y, row := next(t, x), s.bias.V
		if scale != 1 {
			row = nn.Scale(t, row, scale)
		}
		out := nn.AddRow(t, y, row)
		t.Discard(y)
		return out
	})
	return nil
}

// MergeBias implements tuner.BiasMerging.
func (s *site) MergeBias(b []float32, scale float32) {
	for i, x := range s.bias.V.Data {
		b[i] += float32(scale * x)
	}
}

// NeedsBias implements tuner.BiasMerging: as PEFT, peftkit gives no layer a bias
// that its model does not know.
func (s *site) NeedsBias() bool { return true }
