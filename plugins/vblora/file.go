package vblora

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

// short is what save_only_topk_weights keeps of a mixture: the places of the
// chosen vectors, and their weights but the last, which makes up for one.
type short struct {
	places  []int32
	weights []float32
}

const placesEnd, weightsEnd = "_topk_indices", "_topk_weights"

// adapter is a tuner's adapter that may have to be written in the short form.
type adapter struct{ *tuner.Adapter }

var (
	_ peft.Exporter = (*adapter)(nil)
	_ peft.Stepper  = (*adapter)(nil)
)

func (a *adapter) mixtures() []*mixture {
	var out []*mixture
	for _, s := range a.Sites {
		out = append(out, s.(*site).a, s.(*site).b)
	}
	return out
}

// Begin implements peft.Stepper: logits that a file did not hold cannot be trained.
func (a *adapter) Begin(_, _ int) error {
	for _, m := range a.mixtures() {
		if m.short != nil {
			return fmt.Errorf("the adapter was saved with save_only_topk_weights: what was not chosen is lost, so it cannot be trained on: %w", peft.ErrConfig)
		}
	}
	return nil
}

// BeforeUpdate implements peft.Stepper.
func (a *adapter) BeforeUpdate(int) {}

// AfterUpdate implements peft.Stepper.
func (a *adapter) AfterUpdate(int) {}

// Export implements peft.Exporter.
func (a *adapter) Export() ([]formats.OutTensor, error) {
	out, err := a.Adapter.Export()
	if err != nil || !a.Tuner.(*config).Short {
		return out, err
	}
	logits := map[string]bool{}
	for _, m := range a.mixtures() {
		logits[m.logits.Name] = true
	}
	out = slices.DeleteFunc(out, func(t formats.OutTensor) bool { return logits[t.Name] })
	for _, m := range a.mixtures() {
		s := m.short
		if s == nil {
			s = m.shorten()
		}
		out = append(out, m.outPlaces(s), m.outWeights(s))
	}
	return out, nil
}

func (m *mixture) shorten() *short {
	t := nn.NewTape()
	defer t.Close()
	places, weights := m.mix(t)
	s := &short{places: places}
	for r := range weights.Rows {
		s.weights = append(s.weights, weights.Mat().Row(r)[:m.cfg.TopK-1]...)
	}
	return s
}

// whole returns all k weights of each row.
func (s *short) whole(k int) []float32 {
	var out []float32
	for r := range len(s.places) / k {
		last := float32(1)
		for _, w := range s.weights[r*(k-1) : (r+1)*(k-1)] {
			out = append(out, w)
			last -= w
		}
		out = append(out, last)
	}
	return out
}

// shape is that of the logits with a last dimension of n.
func (m *mixture) shape(n int) []int {
	return []int{m.logits.Shape[0], m.logits.Shape[1], n}
}

// placeType is the smallest type that PEFT writes the places of n vectors in.
func placeType(n int) *tensor.DType {
	switch {
	case n < 1<<8:
		return tensor.U8
	case n < 1<<15:
		return tensor.I16
	}
	return tensor.I32
}

func (m *mixture) outPlaces(s *short) formats.OutTensor {
	t := placeType(m.cfg.Vectors)
	return formats.OutTensor{Name: m.logits.Name + placesEnd, Type: t, Shape: m.shape(m.cfg.TopK), WriteTo: func(w io.Writer) error {
		var b []byte
		for _, p := range s.places {
			switch t {
			case tensor.U8:
				b = append(b, byte(p))
			case tensor.I16:
				b = binary.LittleEndian.AppendUint16(b, uint16(p))
			default:
				b = binary.LittleEndian.AppendUint32(b, uint32(p))
			}
		}
		_, err := w.Write(b)
		return err
	}}
}

func (m *mixture) outWeights(s *short) formats.OutTensor {
	return formats.OutTensor{Name: m.logits.Name + weightsEnd, Type: tensor.F32, Shape: m.shape(m.cfg.TopK - 1), WriteTo: func(w io.Writer) error {
		return peft.WriteFloats(w, tensor.F32, s.weights)
	}}
}

// Loading implements tuner.Loader: it takes the short form.
func (c *config) Loading(a *tuner.Adapter, set *peft.TensorSet) error {
	if !c.Short || len(set.Rest()) == 0 {
		return nil
	}
	for _, s := range a.Sites {
		for _, m := range []*mixture{s.(*site).a, s.(*site).b} {
			if set.Has(m.logits.Name) {
				continue
			}
			var err error
			if m.short, err = m.read(set); err != nil {
				return err
			}
			a.Drop(m.logits)
		}
	}
	return nil
}

func (m *mixture) read(set *peft.TensorSet) (*short, error) {
	take := func(end string, cols int) (*tensor.Tensor, error) {
		name := m.logits.Name + end
		t := set.Take(name)
		if t == nil {
			return nil, fmt.Errorf("%s is missing: %w", name, peft.ErrTensors)
		}
		if want := m.shape(cols); !slices.Equal(t.Shape, want) {
			return nil, fmt.Errorf("%s has shape %v, the model and the configuration want %v: %w", name, t.Shape, want, peft.ErrTensors)
		}
		return t, nil
	}
	places, err := take(placesEnd, m.cfg.TopK)
	if err != nil {
		return nil, err
	}
	weights, err := take(weightsEnd, m.cfg.TopK-1)
	if err != nil {
		return nil, err
	}
	s := &short{}
	if m.cfg.TopK > 1 {
		if s.weights, err = weights.AllFloats(); err != nil {
			return nil, err
		}
	}
	if s.places, err = integers(places); err != nil {
		return nil, err
	}
	for _, p := range s.places {
		if p < 0 || int(p) >= m.cfg.Vectors {
			return nil, fmt.Errorf("%s names vector %d of a bank of %d: %w", places.Name, p, m.cfg.Vectors, peft.ErrTensors)
		}
	}
	return s, nil
}

// integers reads a tensor of whole numbers.
func integers(t *tensor.Tensor) ([]int32, error) {
	size := t.Type.Bytes
	n := int(t.Elements())
	if len(t.Data) < n*size {
		return nil, fmt.Errorf("%s is cut short: %w", t.Name, peft.ErrTensors)
	}
	out := make([]int32, n)
	for i := range out {
		b := t.Data[i*size:]
		switch t.Type {
		case tensor.U8:
			out[i] = int32(b[0])
		case tensor.I16:
			out[i] = int32(int16(binary.LittleEndian.Uint16(b)))
		case tensor.I32:
			out[i] = int32(binary.LittleEndian.Uint32(b))
		case tensor.I64:
			v := int64(binary.LittleEndian.Uint64(b))
			out[i] = int32(max(-1, min(v, math.MaxInt32)))
		default:
			return nil, fmt.Errorf("%s is of type %s, expected whole numbers: %w", t.Name, t.Type.Name, peft.ErrTensors)
		}
	}
	return out, nil
}

var _ tuner.Loader = (*config)(nil)
