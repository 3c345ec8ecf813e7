// Package trainabletokens trains the embeddings of a few tokens, new or old ones,
// as a peftkit method. Where the output embedding is the input embedding, the
// tokens change in both; in an encoder-decoder model in both stacks. Files are
// those of Hugging Face PEFT's TRAINABLE_TOKENS.
//
// Without token_indices the most frequent tokens of the training data are chosen
// and written to token_indices. New special tokens, which the method is mostly used
// for, stand in every example and so are among them.
package trainabletokens

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// method adds what is known of a fresh adapter before its tokens are.
type method struct{ *tuner.Method }

// Method is trainable tokens. The learning rate is that of embeddings that are good
// already: of 3e-4 to 1e-2 it gave SmolLM2-135M the lowest validation loss on
// instructions, and 1e-2 one above the model's own. New tokens learn with more; the
// 0.2 of PEFT's method comparison is for two of them.
var Method peft.Method = method{&tuner.Method{
	Facts: peft.Info{
		Name: "trainabletokens", Aliases: []string{"trainable-tokens"}, PeftType: "TRAINABLE_TOKENS", Group: peft.Selective,
		Doc:          "trains the embeddings of chosen tokens",
		Reference:    "Hugging Face PEFT, TrainableTokensConfig",
		LearningRate: 1e-3,
		Options: []peft.Option{
			{Key: "token_indices", Flag: "tokens", Doc: fmt.Sprintf("numbers of the tokens: [5, 17]; without, the %d most frequent of the training data", most)},
			{Key: "init_weights", Default: true, Doc: "start from the tokens' embeddings; false draws normal numbers"},
			{Key: "target_modules", Flag: "target-modules", Doc: "embeddings other than the input embedding"},
		},
	},
	Configure: configure,
	Targets:   inputEmbedding,
	Aim:       aim,
}}

// Size implements peft.Sizer: tokens to be chosen count with the most that they
// can be.
func (m method) Size(mod *model.Model, o peft.Options, seed uint64) (int64, error) {
	n, err := m.Method.Size(mod, o, seed)
	if err != nil {
		return 0, err
	}
	var c config
	common, err := peft.NewConfig(o, m.Facts, mod)
	if err == nil {
		err = common.Decode(&c)
	}
	if err == nil && len(c.Tokens) == 0 && len(mod.Inputs) > 0 {
		w := mod.Inputs[0].Embedding.W
		n += int64(min(most, w.Out)) * int64(w.In)
	}
	return n, err
}

type config struct {
	Tokens peft.Ints `json:"token_indices"`
	Init   bool      `json:"init_weights"`

	own    func(path string) bool // what modules_to_save trains
	common *peft.Config
	seen   []*nn.Weight
	found  int // tokens of the training data that ours were chosen of, 0 when they were given
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Init: true, own: c.Saves, common: c}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	if len(cfg.Tokens) == 0 {
		return cfg, nil // chosen by the data
	}
	return cfg, tuner.CheckTokens("token_indices", cfg.Tokens)
}

// name is that of the rows in a file, below a module's path.
const name = "trainable_tokens_delta"

// Describe implements tuner.Describer.
func (c *config) Describe() string {
	switch {
	case len(c.Tokens) == 0:
		return "tokens chosen by the training data"
	case c.found == len(c.Tokens):
		return fmt.Sprintf("%d trained tokens, all of the training data,", c.found)
	case c.found > 0:
		return fmt.Sprintf("%d trained tokens, the most frequent of the %d in the training data,", len(c.Tokens), c.found)
	}
	return fmt.Sprintf("%d trained tokens", len(c.Tokens))
}

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	w := p.Mod.Weight()
	if slices.Contains(c.seen, w) {
		return follower{}, nil
	}
	both := p.Model.Inputs[0].Embedding.Path == p.Path
	if path, ok := shared(p.Model); ok && both {
		p.Path = path
	}
	s, err := p.Tokens(name, c.Tokens, c.own)
	if err != nil {
		return nil, err
	}
	c.seen = append(c.seen, w)
	s.Random = !c.Init
	if p.Path != p.Mod.Path {
		stored(p, s)
	}
	return s, nil
}

// follower is a module that shares the weight of another target, which changes it.
type follower struct{}

// Init implements tuner.Site.
func (follower) Init(*rand.Rand) error { return nil }

// Attach implements tuner.Site.
func (follower) Attach(float32) error { return nil }

// MergeBias implements tuner.BiasMerging: there is nothing left to do.
func (follower) MergeBias([]float32, float32) {}

// NeedsBias implements tuner.BiasMerging.
func (follower) NeedsBias() bool { return false }
