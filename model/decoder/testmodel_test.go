package decoder_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// The test models of every method open, and gradients reach their embeddings.
func TestTestModels(t *testing.T) {
	for name, s := range map[string]testmodel.Source{
		"gpt2": testmodel.GPT2(), "qwen2": testmodel.Qwen2(), "qwen3": testmodel.Qwen3(), "gemma2": testmodel.Gemma2(), "phi3": testmodel.Phi3(),
	} {
		t.Run(name, func(t *testing.T) {
			m := build(t, s.HF(), model.Options{})
			require.Equal(t, name, m.Family.Name())
			for _, mod := range m.Modules {
				mod.Weight().Unfreeze()
			}
			tape := nn.NewTape()
			tape.Train = true
			b := model.Sequence([]int32{1, 7, 30, 22, 9, 4, 4, 11}, 0)
			b.Labels = []int32{7, 30, 22, 9, 4, 4, 11, 2}
			loss := func() float64 {
				tape.Reset()
				sum, n := m.Loss(tape, b, 1)
				require.Equal(t, 8, n)
				return sum
			}
			first := loss()
			tape.Backward()
			// A small step against the gradient lowers the loss by the step times its square.
			// Eight losses of 5 are off by sqrt(8)*5*bound.Spread(300), 6e-5, and the smallest of
			// these steps is 7e-4: 0.1 of it. With the curvature 0.002 is measured.
			var square float64
			const step = 1e-5
			for _, mod := range m.Modules {
				if mod.Output && m.TiedHead {
					continue
				}
				v := mod.Weight().P.V
				for i, g := range v.Grad {
					square += float64(g) * float64(g)
					v.Data[i] -= step * g
				}
			}
			require.InEpsilon(t, step*square, first-loss(), 0.1)
		})
	}
}
