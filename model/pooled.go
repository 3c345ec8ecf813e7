package model

import "github.com/peftkit/peftkit/nn"

// The layers of the head with which encoder-decoder models classify texts.
const (
	PooledDense = "classification_head.dense"
	PooledOut   = "classification_head.out_proj"
)

// PooledHead classifies texts by the row of the decoder that counts: dense, tanh
// and out_proj (transformers' T5ClassificationHead and BartClassificationHead).
type PooledHead struct {
	dense *nn.LinearLayer
	drop  float64
}

// NewPooledHead makes the head and adds its layers to the model. width is the
// size of a row, sigma the standard deviation of weights that no file has, dropout
// the share that training leaves out of what each of its layers reads.
func (m *Model) NewPooledHead(o Options, width int, sigma, dropout float64) (*PooledHead, error) {
	layer := func(path string, out int) (*nn.LinearLayer, error) {
		w, err := m.HeadWeight(o, path+".weight", sigma, out, width)
		if err != nil {
			return nil, err
		}
		b, err := m.HeadWeight(o, path+".bias", sigma, out)
		if err != nil {
			return nil, err
		}
		l := &nn.LinearLayer{Path: path, W: w, Bias: b}
		m.Modules = append(m.Modules, &Module{Path: path, Linear: l, Head: true})
		return l, nil
	}
	dense, err := layer(PooledDense, width)
	if err != nil {
		return nil, err
	}
	m.Head, err = layer(PooledOut, len(o.Labels))
	m.HeadModules = []string{"classification_head"}
	return &PooledHead{dense, dropout}, err
}

// Run reads texts with both sides and returns what out_proj reads, a row for each
// text. The batch is the text itself, or has it as its source. The decoder begins
// with the token start, and the row of the last of the tokens eos counts.
func (p *PooledHead) Run(t *nn.Tape, b *Batch, start int32, eos []int32, decode func(*nn.Tape, *Batch) *States) *States {
	text := b
	if b.Source != nil {
		text = b.Source
	}
	d, rows := Reread(text, start, eos)
	s := decode(t, d)
	x := nn.BaseDropout(t, s.Pick(t, rows), p.drop)
	h := p.dense.Forward(t, x)
	y := nn.BaseDropout(t, nn.Apply(t, h, nn.Tanh), p.drop)
	t.Discard(s.X, x, h)
	return &States{X: y}
}
