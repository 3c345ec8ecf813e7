// Package ia3 is (IA)³ (Liu et al. 2022, arXiv 2205.05638) as a peftkit method:
// keys and values are multiplied by a learned vector, and so is the input of the
// feed-forward block's last layer. Files are those of Hugging Face PEFT's IA3.
package ia3

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is (IA)³. The learning rate is that of the paper's T-Few recipe.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "ia3", PeftType: "IA3", Group: peft.Reparametrisation,
		Doc:          "multiplies keys, values and feed-forward inputs by learned vectors",
		Reference:    "Liu et al. 2022, arXiv 2205.05638",
		LearningRate: 3e-3,
		Options: []peft.Option{
			{Key: "target_modules", Flag: "target-modules", Doc: "modules to scale: by default keys, values and the last feed-forward layer"},
			{Key: "feedforward_modules", Doc: "those of them whose input is scaled instead of the output"},
			{Key: "exclude_modules", Doc: "modules to leave alone"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
			{Key: "init_ia3_weights", Default: true, Doc: "start from ones; false draws normal numbers"},
		},
	},
	Configure: configure,
	Targets:   targets,
}

// defaults lists the modules of PEFT's table for a model type, the feed-forward
// layer last.
var defaults = map[string][]string{
	"llama": {"k_proj", "v_proj", "down_proj"}, "mistral": {"k_proj", "v_proj", "down_proj"},
	"qwen2": {"q_proj", "v_proj", "down_proj"}, "qwen3": {"q_proj", "v_proj", "down_proj"},
	"gemma": {"q_proj", "v_proj", "down_proj"}, "gemma2": {"q_proj", "v_proj", "down_proj"}, "gemma3_text": {"q_proj", "v_proj", "down_proj"},
	"phi3": {"qkv_proj", "down_proj"}, // not in PEFT's table
	"gpt2": {"c_attn", "mlp.c_proj"},
	"bert": {"key", "value", "output.dense"}, "roberta": {"key", "value", "output.dense"}, "xlm-roberta": {"key", "value", "output.dense"},
	"distilbert": {"k_lin", "v_lin", "lin2"}, // not in PEFT's table
	"t5":         {"k", "v", "wo"}, "mt5": {"k", "v", "wo"},
	"bart": {"q_proj", "v_proj", "fc2"}, "mbart": {"q_proj", "v_proj", "fc2"}, "marian": {"q_proj", "v_proj", "fc2"},
	"opt": {"q_proj", "k_proj", "fc2"},
}

func targets(c *peft.Config, m *model.Model) error {
	list := defaults[m.Type()]
	if list == nil {
		return fmt.Errorf("no default targets for model type %q: name target_modules and feedforward_modules: %w", m.Type(), peft.ErrConfig)
	}
	c.SetTargets(peft.Targets{List: list})
	if c.Raw("feedforward_modules") == nil {
		c.Set("feedforward_modules", list[len(list)-1:])
	}
	return nil
}

type config struct {
	Feedforward peft.Targets `json:"feedforward_modules"`
	Init        bool         `json:"init_ia3_weights"`
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Init: true}
	return cfg, c.Decode(cfg)
}

// feedforward compares as PEFT does: a list item must end the path, letter by letter.
func (c *config) feedforward(path string) (bool, error) {
	if c.Feedforward.Regex != "" {
		return c.Feedforward.Match(path)
	}
	for _, s := range c.Feedforward.List {
		if strings.HasSuffix(path, s) {
			return true, nil
		}
	}
	return false, nil
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	ff, err := c.feedforward(p.Path)
	if err != nil {
		return nil, err
	}
	if ff {
		return &site{l, p.Param("ia3_l", 1, p.In), true, c.Init}, nil
	}
	return &site{l, p.Param("ia3_l", p.Out, 1), false, c.Init}, nil
}

// site scales the input (feed-forward) or the output of a layer by l.
type site struct {
	layer *nn.LinearLayer
	l     *nn.Param
	input bool
	ones  bool
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	for i := range s.l.V.Data {
		if s.l.V.Data[i] = 1; !s.ones {
			s.l.V.Data[i] = float32(rng.NormFloat64())
		}
	}
	return nil
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		if s.input {
			return next(t, nn.MulRow(t, x, s.row(t, scale)))
		}
		return nn.MulRow(t, next(t, x), s.row(t, scale))
	})
	return nil
}

// row is the vector as one row, drawn towards 1 by a scale.
func (s *site) row(t *nn.Tape, scale float32) *nn.Var {
	v := nn.View(t, s.l.V, 1, len(s.l.V.Data))
	if scale == 1 {
		return v
	}
	return nn.AddConst(t, nn.Scale(t, nn.AddConst(t, v, -1), scale), 1)
}

func (s *site) factor(i int, scale float32) float32 {
	return 1 + scale*(s.l.V.Data[i]-1)
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	for r := range r1 - r0 {
		row := w.Row(r)
		for i := range row {
			if s.input {
				row[i] *= s.factor(i, scale)
			} else {
				row[i] *= s.factor(r0+r, scale)
			}
		}
	}
}

// MergeBias implements tuner.BiasMerging: a scaled output includes the bias.
func (s *site) MergeBias(b []float32, scale float32) {
	if s.input {
		return
	}
	for i := range b {
		b[i] *= s.factor(i, scale)
	}
}

// NeedsBias implements tuner.BiasMerging.
func (s *site) NeedsBias() bool { return false }
