package t5

import (
	"math"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// buildClassifier makes the head of a sequence classifier: dense, tanh and
// out_proj (transformers' T5ClassificationHead).
func (n *network) buildClassifier(m *model.Model, o model.Options) error {
	d, labels := n.c.DModel, len(o.Labels)
	sigma := n.c.InitFactor / math.Sqrt(float64(d))
	layer := func(path string, out int) (*nn.LinearLayer, error) {
		w, err := m.HeadWeight(o, path+".weight", sigma, out, d)
		if err != nil {
			return nil, err
		}
		b, err := m.HeadWeight(o, path+".bias", sigma, out)
		if err != nil {
			return nil, err
		}
		l := &nn.LinearLayer{Path: path, W: w, Bias: b}
		m.Modules = append(m.Modules, &model.Module{Path: path, Linear: l, Head: true})
		return l, nil
	}
	var err error
	if n.dense, err = layer(headDense, d); err != nil {
		return err
	}
	m.Head, err = layer(headOut, labels)
	m.HeadModules = []string{"classification_head"}
	return err
}

// runClassifier reads a text with both sides and returns what the output layer
// of the head reads: a row for each text. The batch is the text itself, or has
// it as its source.
func (n *network) runClassifier(t *nn.Tape, b *model.Batch) *model.States {
	text := b
	if b.Source != nil {
		text = b.Source
	}
	d, rows := model.Reread(text, n.start, n.c.EOS)
	s := n.decode(t, d)
	x := s.Pick(t, rows)
	h := n.dense.Forward(t, x)
	y := nn.Apply(t, h, nn.Tanh)
	discard(t, s.X, x, h)
	return &model.States{X: y}
}
