// Package trainabletokens trains the embeddings of a few tokens, new or old ones,
// as a peftkit method. Where the output embedding is the input embedding, the
// tokens change in both. Files are those of Hugging Face PEFT's TRAINABLE_TOKENS.
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

// Method is trainable tokens. The learning rate is that of embeddings trained
// whole by AdamW from good values; the 0.2 of PEFT's method comparison is for two
// tokens that no text shows the meaning of.
var Method = &tuner.Method{
	Facts: peft.Info{
		Name: "trainabletokens", Aliases: []string{"trainable-tokens"}, PeftType: "TRAINABLE_TOKENS", Group: peft.Selective,
		Doc:          "trains the embeddings of chosen tokens",
		Reference:    "Hugging Face PEFT, TrainableTokensConfig",
		LearningRate: 1e-2,
		Options: []peft.Option{
			{Key: "token_indices", Flag: "tokens", Doc: "numbers of the tokens: [5, 17]"},
			{Key: "init_weights", Default: true, Doc: "start from the tokens' embeddings; false draws normal numbers"},
			{Key: "target_modules", Flag: "target-modules", Doc: "embeddings other than the input embedding"},
		},
	},
	Configure: configure,
	Targets:   inputEmbedding,
}

// errEncoderDecoder: PEFT's files name the embedding that both stacks share, which
// is no module of these models here.
var errEncoderDecoder = fmt.Errorf("an encoder-decoder model looks tokens up in two stacks; train them in models of one stack: %w", peft.ErrNoFit)

// inputEmbedding chooses the module that looks up the tokens.
func inputEmbedding(c *peft.Config, m *model.Model) error {
	if len(m.Inputs) == 0 {
		return fmt.Errorf("the model has no input embedding: %w", peft.ErrNoFit)
	}
	if len(m.Inputs) > 1 {
		return errEncoderDecoder
	}
	c.SetTargets(peft.Targets{List: []string{m.Inputs[0].Embedding.Path}})
	return nil
}

type config struct {
	Tokens peft.Ints `json:"token_indices"`
	Init   bool      `json:"init_weights"`

	own  func(path string) bool // what modules_to_save trains
	seen []*nn.Weight
}

func configure(c *peft.Config) (tuner.Tuner, error) {
	cfg := &config{Init: true, own: c.Saves}
	if err := c.Decode(cfg); err != nil {
		return nil, err
	}
	return cfg, tuner.CheckTokens("token_indices", cfg.Tokens)
}

// name is that of the rows in a file, below a module's path.
const name = "trainable_tokens_delta"

// Describe implements tuner.Describer.
func (c *config) Describe() string { return fmt.Sprintf("%d trained tokens", len(c.Tokens)) }

// Site implements tuner.Tuner.
func (c *config) Site(p *tuner.Place) (tuner.Site, error) {
	if len(p.Model.Inputs) > 1 {
		return nil, errEncoderDecoder
	}
	w := p.Mod.Weight()
	if slices.Contains(c.seen, w) {
		return follower{}, nil
	}
	s, err := p.Tokens(name, c.Tokens, c.own)
	if err != nil {
		return nil, err
	}
	c.seen = append(c.seen, w)
	s.Random = !c.Init
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
