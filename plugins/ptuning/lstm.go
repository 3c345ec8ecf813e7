package ptuning

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/prompts"
)

// biLSTM is torch.nn.LSTM in both directions.
type biLSTM struct {
	hidden  int
	dropout float32
	layers  [][2]nn.LSTMWeights // forward and backward
	params  []*nn.Param
}

func newLSTM(c config, in int) *biLSTM {
	l := &biLSTM{hidden: c.Hidden, dropout: c.Dropout}
	for i := range c.Layers {
		var pair [2]nn.LSTMWeights
		for d, end := range []string{"", "_reverse"} {
			add := func(name string, shape ...int) *nn.Var {
				p := nn.NewParam(fmt.Sprintf("%slstm_head.%s_l%d%s", prompts.EncoderPrefix, name, i, end), shape...)
				l.params = append(l.params, p)
				return p.V
			}
			pair[d] = nn.LSTMWeights{
				InHid: add("weight_ih", 4*c.Hidden, in), HidHid: add("weight_hh", 4*c.Hidden, c.Hidden),
				BiasIn: add("bias_ih", 4*c.Hidden), BiasHid: add("bias_hh", 4*c.Hidden),
			}
		}
		l.layers = append(l.layers, pair)
		in = 2 * c.Hidden
	}
	return l
}

// init draws as torch.nn.LSTM does.
func (l *biLSTM) init(rng *rand.Rand) {
	for _, p := range l.params {
		prompts.Uniform(rng, p.V.Data, 1/math.Sqrt(float64(l.hidden)))
	}
}

func (l *biLSTM) forward(t *nn.Tape, x *nn.Var) *nn.Var {
	for i, pair := range l.layers {
		if i > 0 {
			x = nn.Dropout(t, x, l.dropout)
		}
		x = nn.ConcatCols(t, nn.LSTM(t, x, pair[0], false), nn.LSTM(t, x, pair[1], true))
	}
	return x
}

// Init implements prompts.Encoder.
func (e *network) Init(rng *rand.Rand) {
	e.table.Init(rng)
	if e.lstm != nil {
		e.lstm.init(rng)
	}
	for _, l := range e.head {
		l.Init(rng)
	}
}
