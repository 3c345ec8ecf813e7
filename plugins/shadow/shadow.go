// Package shadow is ShadowPEFT (Li et al. 2026, arXiv 2604.19254) as a peftkit method: a
// small trained network of the model's own kind reads the text beside the frozen one, and
// what it makes of a token goes along with the residual stream: each block is told how far
// the two are apart, and moves the shadow by a gate. Files, sizes and start are those of
// Hugging Face PEFT's SHADOW.
package shadow

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is ShadowPEFT with the defaults of PEFT's configuration, and a learning rate from
// the middle of those of the authors' experiments (ShadowLLM/shadow-peft: 2e-4 on MMLU,
// 1e-3 on SQuAD, 3e-3 on GSM8K).
var Method peft.Method = method{}

type method struct{}

// mirror is the shadow_model that is made like the base.
const mirror = "mirror"

// Info implements peft.Method.
func (method) Info() peft.Info {
	return peft.Info{
		Name: "shadow", Aliases: []string{"shadowpeft"}, PeftType: "SHADOW", Group: peft.AdapterBased,
		Doc:          "trains a small network beside the model, whose view of each token corrects every block",
		Reference:    "Li et al. 2026, arXiv 2604.19254",
		NotMergeable: "what it adds depends on the text and on a second network",
		LearningRate: 1e-3,
		Options: []peft.Option{
			{Key: "r", Flag: "rank", Default: 8, Doc: "rank of what is added to the input of a block"},
			{Key: "shadow_alpha", Default: 0.1, Doc: "strength of it"},
			{Key: "shadow_dropout", Flag: "dropout", Default: 0.2, Doc: "dropout of what it is made of"},
			{Key: "update_hidden_size", Doc: "width of the networks that move the shadow (default: r)"},
			{Key: "shadow_model", Default: mirror, Doc: "mirror makes a small network like the model, anything else is the folder of one to begin with, whose embeddings stay"},
			{Key: "shadow_num_hidden_layers", Doc: "layers of a mirror (default 1)"},
			{Key: "shadow_hidden_size", Doc: "its hidden size (default: the model's; another one gives it embeddings of its own)"},
			{Key: "shadow_num_attention_heads", Doc: "its attention heads (default: the model's)"},
			{Key: "shadow_intermediate_size", Doc: "width of its feed-forward blocks (default: the model's)"},
			{Key: "share_embeddings", Default: true, Doc: "read the model's embeddings"},
			{Key: "auxiliary_loss_weight", Default: 0.05, Doc: "weight of the loss that the shadow network has by itself"},
			{Key: "init_weights", Default: true, Doc: "begin without effect"},
			{Key: "target_modules", Flag: "target-modules", Doc: "blocks, one behind the other (default: all)"},
			{Key: "exclude_modules", Doc: "blocks to leave out"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	}
}

type config struct {
	R            int     `json:"r"`
	Alpha        float64 `json:"shadow_alpha"`
	Dropout      float64 `json:"shadow_dropout"`
	Update       *int    `json:"update_hidden_size"`
	Model        string  `json:"shadow_model"`
	Layers       *int    `json:"shadow_num_hidden_layers"`
	Hidden       *int    `json:"shadow_hidden_size"`
	Heads        *int    `json:"shadow_num_attention_heads"`
	Intermediate *int    `json:"shadow_intermediate_size"`
	Share        bool    `json:"share_embeddings"`
	Auxiliary    float64 `json:"auxiliary_loss_weight"`
	Init         bool    `json:"init_weights"`
}

func readConfig(cfg *peft.Config) (*config, error) {
	c := &config{R: 8, Alpha: 0.1, Dropout: 0.2, Model: mirror, Share: true, Auxiliary: 0.05, Init: true}
	if err := cfg.Decode(c); err != nil {
		return nil, err
	}
	if err := tuner.CheckRank("r", c.R); err != nil {
		return nil, err
	}
	for key, v := range map[string]*int{"update_hidden_size": c.Update, "shadow_num_hidden_layers": c.Layers, "shadow_hidden_size": c.Hidden,
		"shadow_num_attention_heads": c.Heads, "shadow_intermediate_size": c.Intermediate} {
		if v != nil && (*v < 1 || *v > 1<<16) {
			return nil, tuner.Invalid("%s is %d, expected 1 to %d", key, *v, 1<<16)
		}
	}
	own := c.Layers != nil || c.Hidden != nil || c.Heads != nil || c.Intermediate != nil
	switch {
	case c.Model != mirror && own:
		return nil, tuner.Invalid("shadow_model is %.60q, which has sizes of its own: leave out shadow_num_hidden_layers, shadow_hidden_size, shadow_num_attention_heads and shadow_intermediate_size", c.Model)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return nil, tuner.Invalid("shadow_dropout is %g, expected 0 or more and below 1", c.Dropout)
	case !(c.Auxiliary >= 0):
		return nil, tuner.Invalid("auxiliary_loss_weight is %g, expected 0 or more", c.Auxiliary)
	}
	return c, nil
}

// or returns the number, or another when there is none.
func or(v *int, other int) int {
	if v == nil {
		return other
	}
	return *v
}

// New implements peft.Method.
func (mt method) New(m *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	cfg, err := peft.NewConfig(o, mt.Info(), m)
	if err != nil {
		return nil, err
	}
	a, err := build(cfg, m)
	if err != nil {
		return nil, err
	}
	if err := a.draw(rand.New(rand.NewPCG(seed, 0x736861646f77))); err != nil {
		return nil, err
	}
	a.attach(1)
	return a, nil
}

// Load implements peft.Method. A scale multiplies shadow_alpha.
func (mt method) Load(m *model.Model, f *formats.Adapter, scale float32) (peft.Adapter, error) {
	cfg, err := peft.ParseConfig(f.Config)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	a, err := build(cfg, m)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	set, err := peft.ExactTensorSet(f)
	if err != nil {
		return nil, err
	}
	if a.unused != nil { // a table that PEFT keeps and does not read
		if t := set.Peek(a.unused.name); t != nil && slices.Equal(t.Shape, []int{a.unused.Out, a.unused.In}) {
			set.Take(a.unused.name)
		}
	}
	if err := set.Fill(slices.Concat(a.params, a.frozen)...); err != nil {
		return nil, err
	}
	a.attach(scale)
	return a, nil
}

// draw begins as PEFT does: the network as transformers begins one, linear layers as
// torch does, what is added at zero.
func (a *adapter) draw(rng *rand.Rand) error {
	for _, mod := range a.net.Modules {
		w := mod.Weight()
		if w.P == nil || a.c.Model != mirror {
			continue
		}
		switch {
		case mod.Norm != nil:
			for i := range w.P.V.Data {
				w.P.V.Data[i] = 1
				if mod.Norm.Plus1 {
					w.P.V.Data[i] = 0
				}
			}
		default:
			sigma, err := a.net.Family.(model.Mirrorer).Deviation(a.net.Config, mod.Path+".weight")
			if err != nil {
				return err
			}
			prompts.Normal(rng, w.P.V.Data, sigma)
			if mod.Embedding != nil {
				if row := mod.Embedding.PaddingRow(); row >= 0 {
					clear(w.P.V.Mat().Row(int(row)))
				}
			}
		}
	}
	uniform := func(p *nn.Param) { prompts.Uniform(rng, p.V.Data, 1/math.Sqrt(float64(p.V.Cols))) }
	if a.projection != nil {
		uniform(a.projection)
	}
	for _, s := range a.sites {
		uniform(s.down)
		if !a.c.Init {
			uniform(s.up)
		}
		for _, n := range []*mlp{s.transform, s.gate} {
			n[0].Init(rng)
			n[1].Init(rng)
		}
	}
	if a.head != nil { // a copy of the model's
		copyTo(a.head.W.P, a.model.Head.W)
		if a.head.Bias != nil {
			copyTo(a.head.Bias.P, a.model.Head.Bias)
		}
	}
	return nil
}

func copyTo(p *nn.Param, w *nn.Weight) {
	for r := range p.V.Rows {
		w.Row(p.V.Mat().Row(r), r)
	}
}

// bare returns the path of a module in transformers' class without a head.
func bare(path string) string { return path[strings.IndexByte(path, '.')+1:] }
