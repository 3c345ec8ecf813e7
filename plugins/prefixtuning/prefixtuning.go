// Package prefixtuning is prefix tuning (Li and Liang 2021, arXiv 2101.00190) as a
// peftkit method: trained keys and values stand before those of every text, in
// every layer. Files are those of Hugging Face PEFT's PREFIX_TUNING.
package prefixtuning

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is prefix tuning. As in the paper, and unlike in PEFT, the prefix is
// trained through a network unless told otherwise: directly it learns at few rates
// and more slowly. The learning rate is that of the benchmark of Hugging Face PEFT
// (MetaMathQA, lr_0.001).
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "prefix-tuning", Aliases: []string{"prefix_tuning", "prefix"}, PeftType: "PREFIX_TUNING", Group: peft.PromptBased,
		Doc:          "trains keys and values that stand before those of every text, in every layer",
		Reference:    "Li and Liang 2021, arXiv 2101.00190",
		NotMergeable: "its keys and values stand before those of the text: no weight of the model holds them",
		LearningRate: 1e-3,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Default: 20, Doc: "number of trained keys and values of each layer"},
			{Key: "prefix_projection", Flag: "prefix-projection", Default: true, Doc: "train them through a network of two layers, as the paper does; only what it gives is saved; false trains them directly and wants a rate of 3e-2"},
			{Key: "encoder_hidden_size", Doc: "size of that network's hidden layer (default: that of the keys)"},
			{Key: "init_weights", Default: small, Doc: "begin with small random numbers, with \"normal\" ones as PEFT does, which drown the text at first, or with \"zero\", where all tokens of a direct prefix stay alike"},
			{Key: "prefix_placement", Doc: "where in an encoder-decoder model: \"decoder\" before the decoder's self-attention, as PEFT does, or \"all\": encoder, decoder and cross-attention, which PEFT cannot load"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Prefix:  true,
	Encoder: encoder,
	Init:    initialise,
	Attach:  attach,
}

const (
	inDecoder = "decoder"
	inAll     = "all"

	small  = "small"
	normal = "normal"
	zero   = "zero"

	// smallSigma is the deviation of a small start.
	smallSigma = 0.02
)

type config struct {
	Projection bool   `json:"prefix_projection"`
	Hidden     int    `json:"encoder_hidden_size"`
	Init       string `json:"init_weights"`
	Placement  string `json:"prefix_placement"`
}

// read checks the method's own keys.
func read(a *prompts.Adapter) (config, error) {
	c := config{Hidden: a.Geometry.Width, Placement: inDecoder}
	if err := a.Cfg.Decode(&c); err != nil {
		return c, err
	}
	switch {
	case c.Init != "" && c.Init != small && c.Init != normal && c.Init != zero:
		return c, fmt.Errorf("init_weights is %q, expected %s, %s or %s: %w", c.Init, small, normal, zero, peft.ErrConfig)
	case c.Placement != inDecoder && c.Placement != inAll:
		return c, fmt.Errorf("prefix_placement is %q, expected %q or %q: %w", c.Placement, inDecoder, inAll, peft.ErrConfig)
	case c.Placement == inAll && a.Geometry.Submodules == 1:
		return c, fmt.Errorf("prefix_placement %q is for encoder-decoder language models: leave it out: %w", c.Placement, peft.ErrConfig)
	case c.Hidden < 1:
		return c, fmt.Errorf("encoder_hidden_size is %d, expected 1 or more: %w", c.Hidden, peft.ErrConfig)
	}
	return c, nil
}

func encoder(a *prompts.Adapter, output bool) (prompts.Encoder, error) {
	c, err := read(a)
	if err != nil {
		return nil, err
	}
	a.Cfg.Set("encoder_hidden_size", c.Hidden)
	p, err := prompts.NewPrefix(a, c.Placement == inAll)
	if err != nil {
		return nil, err
	}
	cols := p.Columns()
	if !c.Projection || output {
		return prompts.NewDirect(a.Geometry.Tokens, cols), nil
	}
	return &projection{
		table: prompts.NewEmbedding(a.Geometry.Tokens, a.Geometry.Width),
		in:    prompts.NewLinear("transform.0", c.Hidden, a.Geometry.Width),
		out:   prompts.NewLinear("transform.2", cols, c.Hidden),
	}, nil
}

// initialise draws the parameters. In the file the start is only told where PEFT
// has a word for it.
func initialise(a *prompts.Adapter, rng *rand.Rand) error {
	c, err := read(a)
	if err != nil {
		return err
	}
	a.Encoder.Init(rng)
	if c.Init != zero {
		a.Cfg.Set("init_weights", nil)
	}
	last := a.Encoder.Params()
	if p, ok := a.Encoder.(*projection); ok {
		last = p.out.Params()
	}
	for _, p := range last {
		switch c.Init {
		case small:
			prompts.Normal(rng, p.V.Data, smallSigma)
		case zero:
			clear(p.V.Data)
		}
	}
	return nil
}

// projection computes the prefix from a small table: the paper's
// reparametrisation, which learns more steadily.
type projection struct {
	table   *prompts.Embedding
	in, out *prompts.Linear
}

// Params implements prompts.Encoder.
func (p *projection) Params() []*nn.Param {
	return append(append([]*nn.Param{p.table.P}, p.in.Params()...), p.out.Params()...)
}

// Init implements prompts.Encoder.
func (p *projection) Init(rng *rand.Rand) {
	p.table.Init(rng)
	p.in.Init(rng)
	p.out.Init(rng)
}

// Forward implements prompts.Encoder.
func (p *projection) Forward(t *nn.Tape) *nn.Var {
	return p.out.Forward(t, nn.Apply(t, p.in.Forward(t, p.table.P.V), nn.Tanh))
}

// Describe says what the encoder is.
func (p *projection) Describe() string {
	return fmt.Sprintf("through a network of %d units", p.in.W.V.Rows)
}

// attach hooks the prefix into the model.
func attach(a *prompts.Adapter) error {
	c, err := read(a)
	if err != nil {
		return err
	}
	p, err := prompts.NewPrefix(a, c.Placement == inAll)
	if err != nil {
		return err
	}
	p.Attach()
	return nil
}
