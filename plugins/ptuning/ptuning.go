// Package ptuning is P-tuning (Liu et al. 2021, arXiv 2103.10385) as a peftkit
// method: embeddings that stand before every text are trained through a small
// network, which makes them depend on each other. Files are those of Hugging Face
// PEFT's P_TUNING; like PEFT's they hold what the network gives, not the network.
package ptuning

import (
	"fmt"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is P-tuning. The rows stand before the text: the paper's templates with
// rows between the words are not part of PEFT's format.
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "p-tuning", Aliases: []string{"p_tuning", "ptuning"}, PeftType: "P_TUNING", Group: peft.PromptBased,
		Doc:          "trains embeddings before every text through a small network",
		Reference:    "Liu et al. 2021, arXiv 2103.10385",
		NotMergeable: "its rows stand before the text: no weight of the model holds them",
		LearningRate: 3e-3,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Default: 20, Doc: "number of trained embeddings"},
			{Key: "encoder_reparameterization_type", Flag: "prompt-encoder", Default: mlp, Doc: "the network: MLP, or LSTM in both directions"},
			{Key: "encoder_hidden_size", Doc: "size of the network's hidden layers (default: that of an embedding)"},
			{Key: "encoder_num_layers", Default: 2, Doc: "layers of the LSTM; an MLP always has three"},
			{Key: "encoder_dropout", Default: 0.0, Doc: "dropout between the layers of the LSTM"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	Encoder: encoder,
	Attach:  prompts.AttachRows,
}

const (
	mlp  = "MLP"
	lstm = "LSTM"
)

type config struct {
	Kind    string  `json:"encoder_reparameterization_type"`
	Hidden  int     `json:"encoder_hidden_size"`
	Layers  int     `json:"encoder_num_layers"`
	Dropout float32 `json:"encoder_dropout"`
}

func encoder(a *prompts.Adapter, output bool) (prompts.Encoder, error) {
	g := a.Geometry
	c := config{Kind: mlp, Hidden: g.Width, Layers: 2}
	if err := a.Cfg.Decode(&c); err != nil {
		return nil, err
	}
	switch {
	case c.Kind != mlp && c.Kind != lstm:
		return nil, fmt.Errorf("encoder_reparameterization_type is %q, expected %s or %s: %w", c.Kind, mlp, lstm, peft.ErrConfig)
	case c.Hidden < 1 || c.Layers < 1:
		return nil, fmt.Errorf("encoder_hidden_size is %d and encoder_num_layers %d, expected 1 or more: %w", c.Hidden, c.Layers, peft.ErrConfig)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return nil, fmt.Errorf("encoder_dropout is %g, expected at least 0 and below 1: %w", c.Dropout, peft.ErrConfig)
	}
	a.Cfg.Set("encoder_hidden_size", c.Hidden)
	if output {
		return prompts.NewDirect(g.Rows(), g.Width), nil
	}
	e := &network{kind: c.Kind, table: prompts.NewEmbedding(g.Rows(), g.Width)}
	first := g.Width
	if c.Kind == lstm {
		e.lstm, first = newLSTM(c, g.Width), 2*c.Hidden
		e.head = []*prompts.Linear{prompts.NewLinear("mlp_head.0", first, first), prompts.NewLinear("mlp_head.2", g.Width, first)}
		return e, nil
	}
	e.head = []*prompts.Linear{
		prompts.NewLinear("mlp_head.0", c.Hidden, first), prompts.NewLinear("mlp_head.2", c.Hidden, c.Hidden),
		prompts.NewLinear("mlp_head.4", g.Width, c.Hidden),
	}
	return e, nil
}

// network is PEFT's PromptEncoder.
type network struct {
	kind  string
	table *prompts.Embedding
	lstm  *biLSTM // nil for an MLP
	head  []*prompts.Linear
}

// Params implements prompts.Encoder.
func (e *network) Params() []*nn.Param {
	out := []*nn.Param{e.table.P}
	if e.lstm != nil {
		out = append(out, e.lstm.params...)
	}
	for _, l := range e.head {
		out = append(out, l.Params()...)
	}
	return out
}

// Forward implements prompts.Encoder.
func (e *network) Forward(t *nn.Tape) *nn.Var {
	x := e.table.P.V
	if e.lstm != nil {
		x = e.lstm.forward(t, x)
	}
	for i, l := range e.head {
		if i > 0 {
			x = nn.Apply(t, x, nn.ReLU)
		}
		x = l.Forward(t, x)
	}
	return x
}

// Describe says what the network is.
func (e *network) Describe() string {
	return fmt.Sprintf("through an %s of %d units", e.kind, e.head[0].W.V.Rows)
}
