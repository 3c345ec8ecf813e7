// Package poly is Polytropon (Ponti et al. 2022, arXiv 2202.13914) and its multi-head
// routing (Caccia et al. 2023, arXiv 2211.03831) as a peftkit method: several LoRAs, the
// skills, of which each task learns its own mixture in every layer. Files are those of
// Hugging Face PEFT's POLY.
//
// While it trains each sequence draws its mixture, as in PEFT: the weight of a skill is
// the sigmoid of the task's number plus noise (a relaxed Bernoulli variable of
// temperature 1). Otherwise it is the sigmoid alone.
package poly

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is Polytropon. The learning rate is LoRA's times five: all skills of a mixture
// that begins even are scaled by its weights.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "poly", Aliases: []string{"polytropon"}, PeftType: "POLY", Group: peft.Reparametrisation,
		Doc:          "several LoRAs of which each task learns its own mixture",
		Reference:    "Ponti et al. 2022, arXiv 2202.13914; splits: arXiv 2211.03831",
		NotMergeable: "each task has another mixture",
		LearningRate: 1e-3,
		Options: tuner.Options("",
			peft.Option{Key: "r", Flag: "rank", Default: 8, Doc: "rank of each skill"},
			peft.Option{Key: "n_tasks", Flag: "tasks", Default: 1, Doc: "number of tasks in the data"},
			peft.Option{Key: "n_skills", Default: 4, Doc: "skills of each layer"},
			peft.Option{Key: "n_splits", Default: 1, Doc: "parts of a layer's inputs and outputs that have mixtures of their own"},
			peft.Option{Key: "poly_type", Default: "poly", Doc: "kind of mixture; PEFT has one"},
			peft.Option{Key: "init_weights", Default: true, Doc: "start without effect; false draws the second factors too"},
			peft.Option{Key: "sample", Default: true, Doc: "draw mixtures while training; false trains with what is used later"},
		),
	},
	NoLayers:  true,
	Configure: configure,
	Targets:   tuner.QueryValue,
}

type config struct {
	R      int    `json:"r"`
	Tasks  int    `json:"n_tasks"`
	Skills int    `json:"n_skills"`
	Splits int    `json:"n_splits"`
	Type   string `json:"poly_type"`
	Init   bool   `json:"init_weights"`
	Sample bool   `json:"sample"`

	// now is what is on its way through each stack.
	now map[model.Stack]*sequences
}

// sequences are the rows of a stack by sequence, and the task of each.
type sequences struct {
	of    []int32 // sequence of each row
	tasks []int32
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{R: 8, Tasks: 1, Skills: 4, Splits: 1, Type: "poly", Init: true, Sample: true}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	c.Remove("sample") // no part of the file
	if err := tuner.CheckRank("r", cfg.R); err != nil {
		return nil, err
	}
	for _, n := range []struct {
		key   string
		value int
	}{{"n_tasks", cfg.Tasks}, {"n_skills", cfg.Skills}, {"n_splits", cfg.Splits}} {
		if n.value < 1 || n.value > 1<<16 {
			return nil, tuner.Invalid("%s is %d, expected 1 to %d", n.key, n.value, 1<<16)
		}
	}
	if cfg.Type != "poly" {
		return nil, tuner.Invalid("poly_type is %q, expected poly, the only one that PEFT has", cfg.Type)
	}
	return cfg, nil
}

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	return fmt.Sprintf("Poly of %d skills of rank %d for %d tasks", c.Skills, c.R, c.Tasks)
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	l, err := p.Linear()
	if err != nil {
		return nil, err
	}
	if p.In%c.Splits != 0 || p.Out%c.Splits != 0 {
		return nil, fmt.Errorf("its weight [%d %d] has no %d equal parts: choose another n_splits: %w", p.Out, p.In, c.Splits, peft.ErrConfig)
	}
	c.watch(p.Model)
	h := fnv.New64a()
	h.Write([]byte(p.Path))
	return &site{
		cfg: c, layer: l, stack: stackOf(p), key: h.Sum64(),
		a:      p.Param("poly_lora_A", c.Splits, c.Skills, p.In/c.Splits, c.R),
		b:      p.Param("poly_lora_B", c.Splits, c.Skills, c.R, p.Out/c.Splits),
		logits: p.Param("poly_router.module_logits", c.Tasks, c.Splits*c.Skills),
	}, nil
}

// stackOf tells whose rows a layer reads: the keys and values of cross-attention are
// made of the encoder's.
func stackOf(p *tuner.Place) model.Stack {
	if !p.Model.EncoderDecoder() {
		return p.Model.Inputs[0].Stack
	}
	for _, at := range p.Model.Attentions {
		if at.Cross && (at.K == p.Mod.Linear || at.V == p.Mod.Linear) {
			return model.Encoder
		}
	}
	if strings.Contains("."+p.Path, ".encoder.") {
		return model.Encoder
	}
	return model.Decoder
}

// watch takes note of what goes through the stacks of a model, once.
func (c *config) watch(m *model.Model) {
	if c.now != nil {
		return
	}
	c.now = map[model.Stack]*sequences{}
	if n := m.Tasks; n == 0 || c.Tasks < n {
		m.Tasks = c.Tasks
	}
	for _, in := range m.Inputs {
		in.Hook(func(_ *nn.Tape, r *model.Rows) {
			s := &sequences{of: make([]int32, r.X.Rows), tasks: r.Batch.Tasks}
			if s.tasks == nil {
				s.tasks = make([]int32, len(r.Seqs))
			}
			for i, sp := range r.Seqs {
				for row := sp.Start; row < sp.End; row++ {
					s.of[row] = int32(i)
				}
			}
			c.now[in.Stack] = s
		})
	}
}

type site struct {
	cfg          *config
	layer        *nn.LinearLayer
	stack        model.Stack
	key          uint64    // of the layer, for noise
	a, b, logits *nn.Param // [splits, skills, in/splits, r], [splits, skills, r, out/splits], [tasks, splits*skills]
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	bound := func(n int) float64 { return 1 / math.Sqrt(float64(n)) }
	tuner.Uniform(s.a.V.Data, bound(s.a.Shape[2]), rng.Float64)
	if !s.cfg.Init {
		tuner.Uniform(s.b.V.Data, bound(s.cfg.R), rng.Float64)
	}
	tuner.Uniform(s.logits.V.Data, 1e-3, rng.Float64)
	return nil
}
