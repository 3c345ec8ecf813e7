// Package glora is GLoRA (Chavan et al. 2023, arXiv 2306.07967) as a peftkit method:
// a weight W becomes W + W*A + B, a bias b becomes b + b*D + E + W·C, where each of
// A to E is a product of low rank, a vector, a number or nothing. Files are those of
// Hugging Face PEFT's GLORA, which hold a tensor of zeros for each that is nothing,
// those of A and B as large as the weight. PEFT refuses the Conv1D layers of GPT-2,
// which this package takes.
//
// A product A needs the dense gradient of the weight, half as much work again as the
// frozen layer; vectors and numbers cost a pass over the outputs.
package glora

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is GLoRA with the options of PEFT's configuration, and the learning rate of
// PEFT's method comparison (its run with vectors).
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "glora", PeftType: "GLORA", Group: peft.Reparametrisation,
		Doc:          "scales and shifts weights and biases, each by a form of choice",
		Reference:    "Chavan et al. 2023, arXiv 2306.07967",
		LearningRate: 5e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 8, Doc: "rank of products"},
			peft.Option{Key: "config_A_B", Default: lora, Doc: "factor and shift of weights: lora, vector, constant or none"},
			peft.Option{Key: "config_C", Default: lora, Doc: "shift of biases by the weight: lora, vector or none"},
			peft.Option{Key: "config_D_E", Default: constant, Doc: "factor and shift of biases: vector, constant or none"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws all numbers"},
			tuner.BiasOption("glora"),
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
	NoExclude: true, NoLayers: true,
}

// The forms that a part may have.
const (
	lora     = "lora"     // a product of low rank
	vector   = "vector"   // a number per output; of C, per input
	constant = "constant" // one number
	none     = "none"
)

type config struct {
	R    int    `json:"r"`
	AB   string `json:"config_A_B"`
	C    string `json:"config_C"`
	DE   string `json:"config_D_E"`
	Init bool   `json:"init_weights"`

	zeros []zeros
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 8, AB: lora, C: lora, DE: constant, Init: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	for _, o := range []struct {
		key, form string
		forms     []string
	}{
		{"config_A_B", cfg.AB, []string{lora, vector, constant, none}},
		{"config_C", cfg.C, []string{lora, vector, none}},
		{"config_D_E", cfg.DE, []string{vector, constant, none}},
	} {
		if !slices.Contains(o.forms, o.form) {
			return nil, tuner.Invalid("%s is %.40q, expected one of %q", o.key, o.form, o.forms)
		}
	}
	return cfg, tuner.CheckRank("r", cfg.R)
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("GLoRA rank %d, A and B %s, C %s, D and E %s", c.R, c.AB, c.C, c.DE)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	s := &site{cfg: c, layer: l, out: p.Out}
	s.a, s.b = c.part(p, "A", c.AB, p.Out, p.In), c.part(p, "B", c.AB, p.Out, p.In)
	onC, onDE := c.C, c.DE
	if l.Bias == nil {
		onC, onDE = none, none
	}
	s.c = c.part(p, "C", onC, p.In, 1)
	s.d, s.e = c.part(p, "D", onDE, p.Out), c.part(p, "E", onDE, p.Out)
	return s, nil
}

// Finish implements tuner.Finisher.
func (c *config) Finish(a *tuner.Adapter) error {
	if len(a.Params()) == 0 && (a.Cfg.Bias == "" || a.Cfg.Bias == "none") && len(a.Cfg.ModulesToSave) == 0 {
		return tuner.Invalid("config_A_B is none, and config_C and config_D_E, which change biases, find none or are none: nothing is left to train; choose vector or lora for config_A_B")
	}
	return nil
}

// part is one of A to E at one module: nothing, a product x·y, or x.
type part struct {
	form string
	x, y *nn.Param
}

// part declares the parameters of a part that stands for a tensor of a shape.
func (c *config) part(p *tuner.Place, letter, form string, shape ...int) part {
	name := "glora_" + letter + "."
	switch form {
	case lora:
		return part{form, p.Param(name+"Xd", shape[0], c.R), p.Param(name+"Xu", c.R, shape[1])}
	case vector:
		if len(shape) == 2 {
			shape = []int{shape[0], 1}
		}
		return part{form: form, x: p.Param(name+"X", shape...)}
	case constant:
		return part{form: form, x: p.Param(name+"X", 1)}
	}
	c.zeros = append(c.zeros, zeros{peft.Prefix + p.Path + "." + name + "zeros", shape})
	return part{form: none}
}
