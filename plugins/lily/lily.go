// Package lily is Lily (Zhong et al. 2025, arXiv 2407.09946) as a peftkit method:
// low-rank updates whose first factor is shared by consecutive layers and whose
// second one is a mixture of a few that all layers share, weighed by a router of each
// layer. Files are those of Hugging Face PEFT's LILY; they repeat what is shared under
// the name of every module that uses it.
//
// As in PEFT the weights of a mixture are the router's means over all tokens that are
// computed at once, of all texts: what a text gives depends on the others beside it,
// and a text written token by token gives other numbers than one read whole. In PEFT
// padding counts too, and in training the last token of a text; here neither is
// computed. PEFT refuses the Conv1D layers of GPT-2, which
// this package takes; it takes output layers, which this package refuses.
package lily

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is Lily with the options of PEFT's configuration, but for the scale, which is
// that of PEFT's example, as is the learning rate. It is no peft.Merger.
var Method peft.Method = struct {
	peft.Method
	peft.Sizer
}{method, method}

var method = &tuner.Method{
	Facts: peft.Info{
		Name: "lily", PeftType: "LILY", Group: peft.Reparametrisation,
		NotMergeable: "its mixture depends on the text",
		Doc:          "low-rank factors that layers share, mixed by routers",
		Reference:    "Zhong et al. 2025, arXiv 2407.09946",
		LearningRate: 1e-4,
		Options: tuner.Options(peft.AllLinear,
			peft.Option{Key: "r", Flag: "rank", Default: 32, Doc: "rank of the updates; two to four times LoRA's"},
			peft.Option{Key: "stride_A", Default: 1, Doc: "consecutive layers that share a first factor"},
			peft.Option{Key: "num_B", Default: 2, Doc: "second factors that all layers share and mix, at least 2"},
			peft.Option{Key: "scaling", Default: 2.0, Doc: "factor of the updates"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws all factors"},
		),
	},
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R       int     `json:"r"`
	Stride  int     `json:"stride_A"`
	Count   int     `json:"num_B"`
	Scaling float64 `json:"scaling"`
	Init    bool    `json:"init_weights"`

	common *peft.Config
	groups map[groupKey]*group
	copies []copied
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 32, Stride: 1, Count: 2, Scaling: 1, Init: true, common: c, groups: map[groupKey]*group{}}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	switch list := c.TargetModules.List; {
	case cfg.Stride < 1:
		return nil, tuner.Invalid("stride_A is %d, expected at least 1", cfg.Stride)
	case cfg.Count < 2 || cfg.Count > 1<<16:
		return nil, tuner.Invalid("num_B is %d, expected 2 to %d: a router weighs at least two", cfg.Count, 1<<16)
	case len(list) >= tooMany:
		return nil, tuner.Invalid("target_modules has %d names, and what modules share is said by the names: PEFT replaces lists of %d and more by shorter ones; name endings that several modules have, such as q_proj", len(list), tooMany)
	}
	return cfg, tuner.CheckRank("r", cfg.R)
}

// tooMany is the length of target_modules from which on PEFT looks for other names.
const tooMany = 20

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("Lily rank %d, %d shared factors", c.R, c.Count)
}

// groupKey says which modules share: those that were named by one word and have one
// shape.
type groupKey struct {
	word    string
	out, in int
}

type group struct {
	sites int
	a, b  *nn.Param // the first factor of the last layers, and the second ones
}

// word is the item of target_modules that names a path, the longest if there are
// several: PEFT takes any of them then. A regular expression is one word for all.
func (c *config) word(path string) string {
	if c.common.TargetModules.IsAllLinear() { // saved as the modules' last names
		return path[strings.LastIndexByte(path, '.')+1:]
	}
	best := ""
	for _, s := range c.common.TargetModules.List {
		if strings.HasSuffix(path, s) && len(s) > len(best) {
			best = s
		}
	}
	return best
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if p.Mod.Output {
		return nil, fmt.Errorf("target_modules hits the output layer, which is computed for some tokens alone, while Lily's mixture is a mean over all: leave it out: %w", peft.ErrConfig)
	}
	key := groupKey{c.word(p.Path), p.Out, p.In}
	g := c.groups[key]
	if g == nil {
		g = &group{}
		c.groups[key] = g
	}
	s := &site{cfg: c, layer: l, out: p.Out}
	if g.sites%c.Stride == 0 {
		g.a, s.firstA = p.Param("lily_A.weight", c.R, p.In), true
	} else {
		c.copies = append(c.copies, copied{peft.Prefix + p.Path + ".lily_A.weight", g.a})
	}
	if g.sites == 0 {
		g.b, s.firstB = p.Param("lily_B.weight", c.Count*c.R, p.Out), true
	} else {
		c.copies = append(c.copies, copied{peft.Prefix + p.Path + ".lily_B.weight", g.b})
	}
	g.sites++
	s.a, s.b, s.router = g.a, g.b, p.Param("lily_router.weight", c.Count, c.R)
	return s, nil
}
